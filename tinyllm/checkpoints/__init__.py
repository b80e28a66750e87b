"""Models on the disk: our own format, Hugging Face's, llama2.c's, adapters and quantized weights."""

from .files import CheckpointError
from .loading import load, save

__all__ = ["CheckpointError", "load", "save"]
