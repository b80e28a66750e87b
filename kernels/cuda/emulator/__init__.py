"""Runs CUDA C++ kernels on the CPU, one fiber for each CUDA thread: emulator.h says how, and what it finds out.

    module = EmulatedModule(code=source, name_expressions=["softmax<float>"])
    module.get_function("softmax<float>")(grid, block, (x, y, np.int32(64)), shared_mem=0)

is cupy.RawModule's calling form, on NumPy arrays.
"""

from .loader import MAX_SHARED, EmulatedModule, EmulatorError

__all__ = ["MAX_SHARED", "EmulatedModule", "EmulatorError"]
