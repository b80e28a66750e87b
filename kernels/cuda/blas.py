"""Plain matrix products, by cuBLAS; emulated, by NumPy, behind a function that takes what cuBLAS takes.

cuBLAS counts columns first: a C-contiguous matrix (rows, columns) is to it the transposed one. So c = a b is asked for as
c^T = b^T a^T, which needs no copy; and a transposed operand is one that is said to be so.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from ..context import autocast_dtype
from ..host import bfloat16 as bfloat16
from . import recording
from .arrays import address
from .device import array_module, name_of

# as cublas_api.h and library_types.h number them
NO, TRANSPOSED = 0, 1
CUDA_R_32F, CUDA_R_64F, CUDA_R_16BF = 0, 1, 14
COMPUTE_32F, COMPUTE_64F = 68, 70
DEFAULT_ALGORITHM = -1
DATA_TYPE = {"float32": CUDA_R_32F, "float64": CUDA_R_64F, "bfloat16": CUDA_R_16BF}


def product(a: Any, b: Any, c: Any, add: bool = False) -> Any:
    """gemm; inside `with kernels.autocast("bfloat16"):` factors of float32 are rounded to bfloat16, their sums are not."""
    return gemm(*rounded(a, b), c, add)


def rounded(a: Any, b: Any) -> tuple[Any, Any]:
    """The factors of a product, as precise as they shall be."""
    if autocast_dtype() == "bfloat16" and name_of(a.dtype) == name_of(b.dtype) == "float32":
        return a.astype(bfloat16()), b.astype(bfloat16())
    return a, b


def gemm(a: Any, b: Any, c: Any, add: bool = False) -> Any:
    """c = a b, or c += a b.  a (M, K), b (K, N), c (M, N), of one dtype, or a and b of bfloat16 and c of float32; each with
    rows or columns of neighbouring numbers, c with rows -> c. bfloat16 is summed in float32."""
    refuse_misfits(a, b, c)
    (M, K), N = a.shape, b.shape[1]
    if 0 in (M, N):
        return c
    if K == 0:
        if not add:
            c[...] = 0
        return c
    (a, op_a, lda), (b, op_b, ldb) = operand(a), operand(b)
    if c.strides[1] != c.itemsize and N > 1:
        raise ValueError(f"c has strides {c.strides}; the numbers of each row must be neighbours")
    ldc = max(c.strides[0] // c.itemsize, N) if M > 1 else N
    scalar = "float64" if name_of(c.dtype) == "float64" else "float32"  # what alpha and beta are held in
    alpha, beta = number(1, scalar), number(int(add), scalar)
    compute = COMPUTE_64F if scalar == "float64" else COMPUTE_32F
    kind, into = DATA_TYPE[name_of(a.dtype)], DATA_TYPE[name_of(c.dtype)]
    sizes = N, M, K, alpha.ctypes.data, address(b), kind, ldb, address(a), kind, lda, beta.ctypes.data, address(c), into, ldc
    gemm_ex(a, op_b, op_a, *sizes, compute, DEFAULT_ALGORITHM)
    return c


@functools.cache
def number(value: int, dtype: str) -> np.ndarray:
    """The number where cuBLAS can read it."""
    return np.full(1, value, dtype)


def refuse_misfits(a: Any, b: Any, c: Any) -> None:
    """Raises ValueError where c cannot be a b."""
    fits = a.dtype == b.dtype and (c.dtype == a.dtype or (name_of(a.dtype), name_of(c.dtype)) == ("bfloat16", "float32"))
    if b.shape[0] != a.shape[1] or c.shape != (len(a), b.shape[1]) or not fits:
        raise ValueError(f"a {a.dtype} {a.shape} times b {b.dtype} {b.shape} does not give c {c.dtype} {c.shape}")


def operand(a: Any) -> tuple[Any, int, int]:
    """The matrix (a copy, where neither its rows nor its columns have neighbouring numbers), how cuBLAS shall read it, and
    how many numbers lie from one row to the next, or from one column."""
    (M, N), (row, column) = a.shape, (stride // a.itemsize for stride in a.strides)
    if (column == 1 or N == 1) and (row >= N or M == 1):
        return a, NO, row if M > 1 else N
    if (row == 1 or M == 1) and (column >= M or N == 1):
        return a, TRANSPOSED, column if N > 1 else M
    return a.copy("C"), NO, N


def gemm_ex(like: Any, *arguments: int) -> None:
    """cublasGemmEx, on the current stream."""
    recording.refuse("cuBLAS is called")  # CuPy, whose handle it is, refuses it too
    if array_module(like) is np:
        emulated_gemm_ex(*arguments)
        return
    from cupy.cuda import device
    from cupy_backends.cuda.libs import cublas

    cublas.gemmEx(device.get_cublas_handle(), *arguments)


def emulated_gemm_ex(op_a, op_b, m, n, k, alpha, a, a_kind, lda, b, b_kind, ldb, beta, c, c_kind, ldc, compute, algorithm):
    """c (m, n) = alpha op(a) op(b) + beta c, columns first, at addresses in this process's memory."""
    scalar = np.float64 if compute == COMPUTE_64F else np.float32
    left, right = (
        matrix(place, rows, columns, step, kind) if op == NO else matrix(place, columns, rows, step, kind).T
        for op, place, rows, columns, step, kind in ((op_a, a, m, k, lda, a_kind), (op_b, b, k, n, ldb, b_kind))
    )
    alpha, beta = (
        matrix(place, 1, 1, 1, CUDA_R_64F if scalar is np.float64 else CUDA_R_32F)[0, 0] for place in (alpha, beta)
    )
    result, product = matrix(c, m, n, ldc, c_kind), alpha * (left.astype(scalar) @ right.astype(scalar))
    result[...] = product if beta == 0 else product + beta * result.astype(scalar)


def matrix(place: int, rows: int, columns: int, step: int, kind: int) -> np.ndarray:
    """The numbers at an address as an array (rows, columns), `step` of them from one column to the next."""
    name = next(name for name, number in DATA_TYPE.items() if number == kind)
    dtype = bfloat16() if name == "bfloat16" else np.dtype(name)
    size = ((columns - 1) * step + rows) * dtype.itemsize
    memory: Any = (ctypes.c_char * size).from_address(place)
    return np.ndarray((rows, columns), dtype, memory, strides=(dtype.itemsize, step * dtype.itemsize))
