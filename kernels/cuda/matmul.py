"""The ladder of matrix products (matmul.cu), step by step from the plain one to tensor cores: to read and to measure.

    matmul(x, w.T, y, step="tensor")           y = x w^T
    matmul(dy, w, dx, step="registers")        dx = dy w
    matmul(dy.T, x, dw, add=True)              dw += dy^T x

The ops take cuBLAS's (blas.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import lies_whole
from .blas import NO, gemm, operand
from .module import Kernels

STEPS = "naive", "shared", "registers", "tensor", "cublas"
BLOCK = {"naive": (16, 16), "shared": (32, 32), "registers": 256}
EDGE = {"naive": 16, "shared": 32, "registers": 128, "tensor": 128}  # of a block's part of c
STAGES, DEPTH, PAD = 3, 32, 8  # of the tensor cores' tiles in shared memory, as in matmul.cu
LAYOUTS = [(a, b) for a in (True, False) for b in (True, False)]  # whether the numbers of a's, b's rows are neighbours
KERNELS = Kernels("matmul.cu", "matmul_naive<T>", "matmul_shared<T>", "matmul_registers<T>")
TENSOR = Kernels(
    "matmul.cu", *(f"matmul_tensor<{int(a)}, {int(b)}>" for a, b in LAYOUTS), types=("bfloat16",)
)  # fmt: skip


def matmul(a: Any, b: Any, c: Any, add: bool = False, step: str = "registers") -> Any:
    """c = a b, or c += a b, by one of STEPS.  a (M, K), b (K, N), c (M, N), of one dtype; bfloat16 is summed in float32.

    a and b may be any views, c must have rows of neighbouring numbers. "tensor" takes bfloat16 alone. Raises ValueError for
    shapes, dtypes or layouts that do not fit.
    """
    (M, K), N = a.shape, b.shape[1]
    if step not in STEPS:
        raise ValueError(f"step is {step!r}; the ladder has {', '.join(STEPS)}")
    if b.shape[0] != K or c.shape != (M, N) or not a.dtype == b.dtype == c.dtype:
        raise ValueError(f"a {a.dtype} {a.shape} times b {b.dtype} {b.shape} does not give c {c.dtype} {c.shape}")
    if N > 1 and c.strides[1] != c.itemsize:
        raise ValueError(f"c has strides {c.strides}; the numbers of each row must be neighbours")
    if step == "cublas":
        return gemm(a, b, c, add)
    grid = -(-N // EDGE[step]), -(-M // EDGE[step])
    if step == "tensor":
        return tensor(a, b, c, add, grid)
    KERNELS.launch(f"matmul_{step}<T>", c, grid, BLOCK[step], a, *steps(a), b, *steps(b), c, steps(c)[0], M, N, K, bool(add))
    return c


def tensor(a, b, c, add, grid):
    (M, K), N = a.shape, b.shape[1]
    (a, a_operation, a_step), (b, b_operation, b_step) = operand(a), operand(b)
    a_rows, b_rows = a_operation == NO, b_operation == NO
    lines = (a, K if a_rows else M, a_step), (b, N if b_rows else K, b_step)
    whole = all(lies_whole(x, length * x.itemsize, step * x.itemsize) for x, length, step in lines)
    panels = [(EDGE["tensor"], DEPTH) if rows else (DEPTH, EDGE["tensor"]) for rows in (a_rows, not b_rows)]
    shared = STAGES * sum(2 * n * (length + PAD) for n, length in panels)
    name = f"matmul_tensor<{int(a_rows)}, {int(b_rows)}>"
    places = a, np.int64(a_step), b, np.int64(b_step), c
    TENSOR.launch(name, c, grid, 256, *places, steps(c)[0], M, N, K, bool(add), whole, shared=shared)
    return c


def steps(a):
    """How many numbers lie from one row to the next, and from one column."""
    return tuple(np.int64(stride // a.itemsize) for stride in a.strides)
