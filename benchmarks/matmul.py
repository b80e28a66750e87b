"""One matrix product, tinyllm beside NumPy and PyTorch, and what the processor's vector units can do at all.

    python benchmarks/matmul.py 3072x384x1536 --layouts y dx dw
    python benchmarks/matmul.py --dtype bfloat16

For sizes N x C x F, the products of a linear layer: y = x w^T, dx = dy w, dw = dy^T x, with x (N, C), w (F, C), dy (N, F).
The ceiling is the innermost tile over and over, on all threads, on numbers that stay in the cache: no product is faster.
In bfloat16, tinyllm takes float32 factors and rounds them on the way, and its result is float32; PyTorch is given factors
that are bfloat16 already, and gives such a result. NumPy has no bfloat16: tinyllm's own float32 product stands in its place.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import harness
import numpy as np
from harness import Comparison, Contender, console

LAYOUTS = ("y", "dx", "dw")
TURN = 0.3  # seconds, about
CEILING = "ceiling"


def operands(sizes: tuple[int, int, int], layout: str) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of the layout's product, as views of contiguous arrays."""
    N, C, F = sizes
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape, np.float32) for shape in ((N, C), (F, C), (N, F)))
    return {"y": (x, w.T), "dx": (dy, w), "dw": (dy.T, x)}[layout]


# The contenders --------------------------------------------------------------------------------------------------------


def turns(
    product: Callable[[], Any], sizes: tuple[int, int, int], result: Callable[[], np.ndarray]
) -> Iterator[dict[str, Any]]:
    """Figures of the result, then the seconds of each product of a turn."""
    for _ in range(3):
        began = time.perf_counter()
        product()
        seconds = time.perf_counter() - began
    out = result().astype(float)
    yield {"result": [np.abs(out).sum(), np.linalg.norm(out), *np.abs(out).sum(1)[:3]]}
    while True:
        times = []
        for _ in range(max(3, int(TURN / seconds))):
            began = time.perf_counter()
            product()
            times.append(time.perf_counter() - began)
        yield {"seconds": times}


def tinyllm_product(sizes: tuple[int, int, int], layout: str, dtype: str, threads: int) -> Iterator[dict[str, Any]]:
    from tinyllm import kernels
    from tinyllm.kernels.cpu.matmul import matmul

    a, b = operands(sizes, layout)
    out = np.empty((len(a), b.shape[1]), np.float32)

    def product() -> None:
        with kernels.autocast(dtype):
            matmul(a, b, out)

    return turns(product, sizes, lambda: out)


def numpy_product(sizes: tuple[int, int, int], layout: str, dtype: str, threads: int) -> Iterator[dict[str, Any]]:
    a, b = operands(sizes, layout)
    out = np.empty((len(a), b.shape[1]), np.float32)
    return turns(lambda: np.matmul(a, b, out=out), sizes, lambda: out)


def torch_product(sizes: tuple[int, int, int], layout: str, dtype: str, threads: int) -> Iterator[dict[str, Any]]:
    import torch

    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    a, b = (torch.from_numpy(x).to(kind) for x in operands(sizes, layout))
    out = torch.empty((len(a), b.shape[1]), dtype=kind)
    return turns(lambda: torch.mm(a, b, out=out), sizes, lambda: out.float().numpy())


def ceiling(sizes: tuple[int, int, int], layout: str, dtype: str, threads: int) -> Iterator[dict[str, Any]]:
    """As many multiplications as the product has, all of them inside of one tile."""
    from numba import njit, prange

    from tinyllm.kernels.cpu.simd import TILE_COLUMNS, TILE_ROWS, make_tile

    steps, pairs = 256, dtype == "bfloat16"
    tile = make_tile(a_row=1, a_step=TILE_ROWS, pairs=pairs)
    a, b, c = (
        np.ones((threads, n), np.float32) for n in (steps * TILE_ROWS, steps * TILE_COLUMNS, TILE_ROWS * TILE_COLUMNS)
    )
    tiles = -(-int(np.prod(sizes)) // (steps * (1 + pairs) * TILE_ROWS * TILE_COLUMNS * threads))

    @njit(parallel=True)
    def work(tiles, a, b, c):
        for t in prange(len(a)):
            for _ in range(tiles):
                tile(steps, a[t].ctypes.data, b[t].ctypes.data, 0, 0, c[t].ctypes.data, TILE_COLUMNS)

    return turns(lambda: work(tiles, a, b, c), sizes, lambda: c)


# The comparison --------------------------------------------------------------------------------------------------------


def compare(
    sizes: tuple[int, int, int], layout: str, dtype: str, threads: int, rounds: int, max_foreign: float
) -> Comparison:
    options = {"sizes": sizes, "layout": layout, "dtype": dtype}
    contenders = [Contender("tinyllm", "matmul:tinyllm_product", options)]
    if dtype == "float32":
        contenders += [Contender(name, f"matmul:{name.lower()}_product", options) for name in ("NumPy", "torch")]
    else:
        contenders.append(Contender("tinyllm float32", "matmul:tinyllm_product", {**options, "dtype": "float32"}, 3e-3))
        contenders.append(Contender("torch", "matmul:torch_product", options, 3e-3))
    contenders.append(Contender(CEILING, "matmul:ceiling", options, tolerance=None))
    shape = "x".join(map(str, sizes))
    about = {"y": "y = x w^T", "dx": "dx = dy w", "dw": "dw = dy^T x"}[layout]
    return harness.compare(f"{shape}: {about}, {dtype}", contenders, threads, rounds, max_foreign)


def show(result: Comparison, sizes: tuple[int, int, int]) -> None:
    names = [c.name for c in result.present] if result.rounds else []
    gflop = 2e-9 * float(np.prod(sizes))
    columns = {"\nGFLOP/s": {name: f"{gflop / result.seconds(name):.0f}" for name in names}}
    if CEILING in names:
        best = result.seconds(CEILING)
        columns["of the\nceiling"] = {name: f"{best / result.seconds(name):.0%}" for name in names}
    harness.show(result, columns)


def sizes_of(text: str) -> tuple[int, int, int]:
    N, C, F = map(int, text.lower().split("x"))
    return N, C, F


def main() -> int:
    parser = harness.parser(__doc__, rounds=9)
    default = [(3072, 384, 1536), (3072, 1536, 384), (768, 128, 512)]
    parser.add_argument("sizes", nargs="*", type=sizes_of, metavar="NxCxF", default=default)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS, help="(default: all)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(default: %(default)s)")
    args = parser.parse_args()
    about = harness.machine(args.threads)
    harness.show_machine(about)
    results = []
    for sizes in args.sizes:
        for layout in args.layouts:
            results.append(compare(sizes, layout, args.dtype, args.threads, args.rounds, args.max_foreign))
            show(results[-1], sizes)
    if args.json:
        harness.write_json(args.json, about, [result.to_json() for result in results])
    console.print("times, in pairs: how many times as long as tinyllm's product theirs takes; above 1, tinyllm is faster")
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
