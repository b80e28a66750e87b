"""Products of few rows, as in decoding: the weight is read once, at the memory's speed, a warp for each of its rows
(few_rows.cu). And unlike cuBLAS's they can be recorded in a CUDA graph."""

from __future__ import annotations

from .arrays import WARP, lies_whole, plain, vector
from .blas import refuse_misfits
from .module import Kernels

FEW = 8  # rows: a thread has a sum for each
WARPS = 4
KERNELS = Kernels("few_rows.cu", *(f"few_rows<T, {S}, {R}>" for S in ("T", "wide<T>") for R in (1, FEW)))


def few_rows(x, w, b, y):
    """y = x w^T + b.  x (N, C), w (F, C), b (F,) or None, into y (N, F), of x's dtype, or float32 where that is bfloat16."""
    refuse_misfits(x, w.T, y)
    x, w, (n, C) = plain(x), plain(w), x.shape
    whole = lies_whole(x, C * x.itemsize) and lies_whole(w)
    R = 1 if n == 1 else FEW
    name = f"few_rows<T, {'T' if y.dtype == x.dtype else 'wide<T>'}, {R}>"
    sizes = n, C, len(w), whole
    KERNELS.launch(name, x, (-(-len(w) // WARPS), -(-n // R)), (WARP, WARPS), x, w, vector(b, y, "b"), y, *sizes)
