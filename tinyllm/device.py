"""Where a model computes: "cpu" or "cuda" (kernels/device.py)."""

from .kernels.device import DEVICES, bfloat16, check_device, device_of, moved, refill, to_device, to_host

__all__ = ["DEVICES", "bfloat16", "check_device", "device_of", "moved", "refill", "to_device", "to_host"]
