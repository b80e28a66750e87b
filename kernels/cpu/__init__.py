"""The cpu set: Numba-JIT kernels, fused, parallel over one thread pool and vectorised. They run on NumPy arrays."""

from ..threads import choose

choose()
