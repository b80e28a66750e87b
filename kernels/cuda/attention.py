"""Fused attention over tiles, as in FlashAttention-2 (Dao 2023).

attention.cu is the plain way, for any type; attention_tensor.cu is that of the tensor cores, for bfloat16 with heads of at
most 128 numbers, a multiple of 8; attention_decode.cu is the forward of few queries, with the keys split over many warps.
lse is float64: rounded, it would spoil the weights that the backward computes from it. There it comes in two parts of the
dtype that scores are computed in (common.cuh), because few GPUs are fast at float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..common import check_end
from .arrays import PACK, WARP, accumulator, lies_whole, log_sums, plain, settle, wide
from .device import array_module, name_of, uploaded
from .dropout import mask_arguments
from .memory import empty, zeros
from .module import TYPES, Kernels

SIDE = 16  # as in attention.cu
HEAD_SIZES = 32, 64, 128, 256  # that there are kernels for; others are filled up with zeros
BYTES = {"float": 4, "bfloat16": 4, "double": 8}  # of a number that is computed with
TENSOR_HEAD_SIZES = 32, 64, 128
WARPS = 4
FEW_QUERIES = 8  # with no more, a forward takes attention_decode.cu
STRETCH, DECODING_WARPS = 64, 4096  # at least so many keys to a warp of it; about as many warps, if there are the keys


class Tiled(NamedTuple):
    """A kernel that computes by tiles of scores, and how it is to be launched."""

    kernels: Kernels
    name: str
    queries: int  # of a tile
    keys: int
    threads: int
    shared: int  # bytes

    def tiles_of_queries(self, T: int) -> int:
        return -(-T // self.queries)

    def tiles_of_keys(self, S: int) -> int:
        return -(-S // self.keys)

    def launch(self, like: Any, grid: tuple[int, ...], *args: Any) -> None:
        self.kernels.launch(self.name, like, grid, self.threads, *args, shared=self.shared)


def plain_way(size: int, type_name: str) -> dict[str, Tiled]:
    """The kernels of attention.cu for one head size and type."""
    width = BYTES[type_name]
    # rows of a thread: as many as shared memory holds, and registers
    R = 4 if size <= 64 and width == 4 else 2 if size * width <= 512 else 1
    names = {name: f"attention_{name}<T, {size}, {R}>" for name in PLAIN_TILES}
    kernels = Kernels("attention.cu", *names.values(), types=(type_name,))
    score = SIDE * R + 1
    return {
        name: Tiled(
            kernels, template, SIDE * R, SIDE * R, SIDE * SIDE, width * SIDE * R * (PLAIN_TILES[name] * (size + 1) + score)
        )
        for name, template in names.items()
    }


def tensor_way(size: int) -> dict[str, Tiled]:
    """The kernels of attention_tensor.cu for one head size."""
    M, N = (2, 64) if size <= 64 else (1, 32)  # strips of a warp's keys, or the forward's queries; a tile's queries
    ways = {"forward": tensor_kernel("forward", size, M, 64), "backward": tensor_kernel("backward", size, M, N, "false")}
    ways["backward_dropout"] = tensor_kernel("backward", size, 1, N, "true")  # registers are left for one strip
    return {**ways, "backward_bias": tensor_kernel("backward_bias", size, 1, 32)}


def tensor_kernel(name: str, size: int, M: int, N: int, *more: str) -> Tiled:
    rows, row = 16 * M * WARPS, 2 * (size + 8)  # of a block; bytes in a tile
    template = f"attention_{name}<{', '.join(map(str, (size, M, N, WARPS, *more)))}>"
    kernels = Kernels("attention_tensor.cu", template, types=("bfloat16",))
    if name == "forward":
        return Tiled(kernels, template, rows, N, WARP * WARPS, row * (rows + 2 * N))
    shared = 2 * row * rows + 2 * (2 * row + 12) * N + 2 * (N + 8) * rows + 16
    return Tiled(kernels, template, N, rows, WARP * WARPS, shared)


PLAIN_TILES = {"forward": 3, "backward_queries": 4, "backward_keys": 4, "backward_bias": 4}  # in shared memory at a time
PLAIN = {(size, type_name): plain_way(size, type_name) for size in HEAD_SIZES for type_name in BYTES}
TENSOR = {size: tensor_way(size) for size in TENSOR_HEAD_SIZES}
DELTA = Kernels("attention.cu", "attention_delta<T>")
DECODE = {
    size: Kernels("attention_decode.cu", f"attention_decode<T, {size}>", f"attention_combine<T, {size}>")
    for size in HEAD_SIZES
}


class Call(NamedTuple):
    """What forward and backward of one call share."""

    B: int
    T: int
    S: int
    H: int
    G: int
    D: int
    arrays: tuple[Any, ...]  # q, k, v, with the numbers of a head side by side
    masking: tuple[Any, ...]  # the last arguments of all kernels, from scale on

    def kernel(self, name: str) -> Tiled:
        dtype = self.arrays[0].dtype
        if name in TENSOR[32] and on_tensor_cores(dtype, self.D):
            return TENSOR[least(TENSOR_HEAD_SIZES, self.D)][name]
        return PLAIN[least(HEAD_SIZES, self.D), TYPES[name_of(dtype)]][name]

    def places(self) -> tuple[Any, ...]:
        return (*self.arrays, *(step for a in self.arrays for step in steps(a)))


def decode(call: Call, y: Any, lse: Any, end: Any = None) -> None:
    """The forward, of few queries."""
    (B, T, S, H, G, D), q = call[:6], call.arrays[0]
    size, rows = least(HEAD_SIZES, D), B * H * T
    length = max(STRETCH, -(-S // max(1, DECODING_WARPS // max(rows, 1))))
    stretches = max(1, -(-S // length))
    sums, tops, totals = (empty(q, (B, H, T, stretches, *last), wide(q)) for last in ((size,), (), ()))
    whole = all(lies_whole(a, D * a.itemsize, *a.strides[:3]) for a in call.arrays)
    block = WARP, max(1, min(H // max(G, 1) * T, 8))
    arguments = *call.places(), sums, tops, totals, end, length, whole, T, S, H, D, *call.masking
    DECODE[size].launch(f"attention_decode<T, {size}>", q, (stretches, G, B), block, *arguments)
    arguments = sums, tops, totals, y, lse, rows, stretches, T, H, D
    DECODE[size].launch(f"attention_combine<T, {size}>", q, -(-rows // 4), (WARP, 4), *arguments)


def backward_in_turns(call: Call, read: tuple[Any, ...], dq: Any, dk: Any, dv: Any) -> None:
    """The gradients by attention_tensor.cu's one kernel, whose blocks own keys and add to dq in turns.

    That takes five products for each tile of scores; kernels of their own for dq and for dk and dv would compute scores and
    dp twice, seven. dq's sums are kept in float32 meanwhile, as many as dq has. Turns cost memory and time where a block
    has to wait, and keep the order of the sums: a training step gives the same bits in every run, as a run that is resumed
    relies on.
    """
    (B, T, S, H, G, D), kernel, q = call[:6], call.kernel("backward"), call.arrays[0]
    causal, window, threshold = call.masking[5:8]
    if threshold:
        kernel = call.kernel("backward_dropout")
    if S == 0 or window < 1 or (causal and S < T):
        dq[...] = 0  # there may be tiles of queries that see no key, and that no block comes to
    parts = B * H * kernel.tiles_of_queries(T) * WARPS
    blocks = kernel.tiles_of_keys(S) * G * B
    size = least(TENSOR_HEAD_SIZES, D) * kernel.queries // WARPS if kernel.tiles_of_keys(S) > 1 else 0
    sums, turns = empty(q, (parts, size), np.float32), zeros(q, 1 + parts, np.uint32)
    written = dq, dk, dv, *(step for a in (dq, dk, dv) for step in steps(a))
    kernel.launch(q, (blocks,), *read, *written, sums, turns[1:], turns[:1], T, S, H, G, D, *call.masking)


def prepared(q, k, v, mask, causal, window, scale, bias, dropout, seed) -> Call:
    """The arguments, checked: kernels read where these say. Raises ValueError or TypeError for what does not fit."""
    if name_of(q.dtype) not in TYPES or not q.dtype == k.dtype == v.dtype:
        raise TypeError(
            f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; attention needs all three in one of {', '.join(TYPES)}"
        )
    if q.ndim != 4 or k.ndim != 4:
        raise ValueError(f"q is {q.shape} and k {k.shape}; they must be (B, T, H, D) and (B, S, G, D)")
    (B, T, H, D), (S, G) = q.shape, k.shape[1:3]
    if k.shape != (B, S, G, D) or v.shape != k.shape or (G and H % G) or (H and not G):
        raise ValueError(
            f"q {q.shape}, k {k.shape}, v {v.shape} must be (B, T, H, D), (B, S, G, D), (B, S, G, D), H a multiple of G"
        )
    if D > HEAD_SIZES[-1]:
        raise ValueError(f"the cuda set's attention has heads of at most {HEAD_SIZES[-1]} numbers, and got {D}")
    mask, mask_batch, mask_row = mask_of(None if mask is None else uploaded(mask, q), B, T, S)
    bias = None if bias is None else given(bias, (H, T, S), q.dtype, "bias")
    scale = 1 / math.sqrt(max(D, 1)) if scale is None else scale
    window = T + S if window is None else max(min(window, T + S), -T - S)
    low, high, threshold, factor = mask_arguments(dropout, seed)
    masking = float(scale), mask, mask_batch, mask_row, bias, bool(causal), window, threshold, low, high, factor
    return Call(B, T, S, H, G, D, tuple(readable(a) for a in (q, k, v)), masking)


def least(sizes: tuple[int, ...], D: int) -> int:
    """The head size of the kernel that computes heads of D numbers."""
    return next(size for size in sizes if D <= size)


def on_tensor_cores(dtype, D: int) -> bool:
    return name_of(dtype) == "bfloat16" and D % 8 == 0 and D <= TENSOR_HEAD_SIZES[-1]


def mask_of(mask, B, T, S):
    """The mask as bytes (1 or B, 1 or T, S), and how many of them lie from one sequence, and from one query, to the next."""
    if mask is None:
        return None, np.int64(0), 0
    mask = mask[:, None] if mask.ndim == 2 else mask
    if mask.dtype != bool or mask.ndim != 3 or any(m not in (1, n) for m, n in zip(mask.shape, (B, T, S))):
        raise ValueError(f"mask is {mask.dtype} {mask.shape}; it must be bool, (B, S) or (B, T, S), of {(B, T, S)}")
    if mask.shape[2] != S:
        mask = array_module(mask).broadcast_to(mask, (*mask.shape[:2], S))
    mask = plain(mask)
    return mask, np.int64(0 if len(mask) == 1 else mask.shape[1] * S), 0 if mask.shape[1] == 1 else S


def given(a, shape, dtype, name):
    if a.shape != shape or a.dtype != dtype:
        raise ValueError(f"{name} is {a.dtype} {a.shape}; it must be {dtype} {shape}")
    return plain(a)


def readable(a):
    """a, or a copy, with the numbers of a head side by side, for tensor cores beginning at multiples of 16 bytes."""
    return a if is_readable(a) else plain(a) if not a.flags.c_contiguous else a.copy()


def is_readable(a):
    if a.strides[3] != a.itemsize and a.shape[3] != 1:
        return False
    return not on_tensor_cores(a.dtype, a.shape[3]) or lies_whole(a, *a.strides[:3])


def gradients(q, k):
    """Arrays for dq, dk, dv: views that join_heads joins without a copy, of one array if T == S, else dk and dv of one."""
    (B, T, H, D), (S, G) = q.shape, k.shape[1:3]
    if T == S:
        joined = empty(q, (B, T, H + 2 * G, D))
        return joined[:, :, :H], joined[:, :, H : H + G], joined[:, :, H + G :]
    joined = empty(q, (B, S, 2 * G, D))
    return empty(q, q.shape), joined[:, :, :G], joined[:, :, G:]


def steps(a):
    """How many numbers lie from one to the next along batch, positions, heads."""
    return tuple(np.int64(stride // a.itemsize) for stride in a.strides[:3])


def attention_forward(q, k, v, mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0):
    call = prepared(q, k, v, mask, causal, window, scale, bias, dropout, seed)
    B, T, S, H, G, D = call[:6]
    y, lse = empty(q, (B, T, H, D)), empty(q, (B, H, T), "float64")
    if T <= FEW_QUERIES:
        decode(call, y, lse)
        return y, lse
    kernel = call.kernel("forward")
    kernel.launch(q, (kernel.tiles_of_queries(T), H, B), *call.places(), y, lse, T, S, G, D, *call.masking)
    return y, lse


def attention_backward(
    dy, q, k, v, y, lse,
    mask=None, causal=False, window=None, scale=None, bias=None, dropout=0.0, seed=0, dbias=None,
):  # fmt: skip
    call = prepared(q, k, v, mask, causal, window, scale, bias, dropout, seed)
    B, T, S, H, G, D = call[:6]
    dy, y, lse = (
        readable(given(dy, (B, T, H, D), q.dtype, "dy")),
        given(y, (B, T, H, D), q.dtype, "y"),
        log_sums(lse, (B, H, T)),
    )
    dq, dk, dv = gradients(q, k)
    delta, parts = empty(q, (B, H, T), wide(q)), empty(q, (B, H, T, 2), wide(q))
    threads = min(WARP, 1 << max(-(-D * q.itemsize // PACK) - 1, 0).bit_length())  # of a row: a pack for each
    block = threads, 4 * WARP // threads
    DELTA.launch("attention_delta<T>", q, -(-B * T * H // block[1]), block, dy, y, lse, delta, parts, B * T * H, T, H, D)
    read = dy, *call.places(), parts, delta
    if on_tensor_cores(q.dtype, D):
        backward_in_turns(call, read, dq, dk, dv)
    else:
        kernel = call.kernel("backward_queries")
        kernel.launch(q, (kernel.tiles_of_queries(T), H, B), *read, dq, *steps(dq), T, S, G, D, *call.masking)
        kernel = call.kernel("backward_keys")
        kernel.launch(q, (kernel.tiles_of_keys(S), G, B), *read, dk, dv, *steps(dk), *steps(dv), T, S, H, D, *call.masking)
    if dbias is not None:
        kernel, sums = call.kernel("backward_bias"), accumulator(dbias, (H, T, S), q, "dbias")
        grid = kernel.tiles_of_keys(S), kernel.tiles_of_queries(T), H
        kernel.launch(q, grid, *read, sums, B, T, S, G, D, *call.masking)
        settle(dbias, sums)
    return dq, dk, dv


def attention_step(q, keys, values, end, mask=None, causal=False, window=None, scale=None, bias=None):
    """attention_forward's y, for the first `end` of the keys and values; end: an int64 (1,) on the device, at most their S.

    mask and bias have room for all S. What is launched is the same while the keys become more: a CUDA graph can hold it.
    T <= FEW_QUERIES.
    """
    check_end(end)
    call = prepared(q, keys, values, mask, causal, window, scale, bias, 0.0, 0)
    B, T, S, H, G, D = call[:6]
    y, lse = empty(q, (B, T, H, D)), empty(q, (B, H, T), "float64")
    decode(call, y, lse, end)
    return y
