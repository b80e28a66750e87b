"""The CUDA kernels on a GPU: the ladder of matrix products beside cuBLAS, attention beside PyTorch's, decoding's bandwidth.

    python benchmarks/cuda_kernels.py
    python benchmarks/cuda_kernels.py attention --json attention.json

All on one card in one run. Times are medians by the GPU's own clock, of enough calls in a row that launching is hidden
behind computing, where a kernel takes longer than its launch. Without a GPU there is nothing to measure; --tiny, with
TINYLLM_DEVICE=emulated, tries the script out, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tinyllm.kernels.cuda import attention, device
from tinyllm.kernels.cuda.matmul import STEPS, matmul

SECONDS = 0.005  # that the calls of one timing take together, about
TIMINGS = 9
SLOWEST = {"naive": 2048, "shared": 4096}  # the largest size that these steps are measured at
LAYOUTS = ("y", "dx", "dw")
TOKENS, WIDTH = 16_384, 2048  # attention's B T, and H D: the sizes of FlashAttention-2's own benchmark

Row = dict[str, Any]


def on_gpu() -> bool:
    return not device.emulated()


def array(values: np.ndarray, dtype: str) -> Any:
    """On the device that is measured."""
    if dtype == "bfloat16":
        import ml_dtypes

        values = values.astype(ml_dtypes.bfloat16)
    values = np.ascontiguousarray(values, None if dtype == "bfloat16" else dtype)
    return device.cupy().asarray(values) if on_gpu() else values


def seconds(call: Callable[[], Any]) -> float:
    """The median time of a call, after a warm-up."""
    call()
    calls = max(1, int(SECONDS / timed(call, 1)))
    return statistics.median(timed(call, calls) for _ in range(TIMINGS))


def timed(call: Callable[[], Any], calls: int) -> float:
    """Of each of some calls in a row."""
    if not on_gpu():
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - began) / calls
    cuda = device.cupy().cuda
    began, ended = cuda.Event(), cuda.Event()
    began.record()
    for _ in range(calls):
        call()
    ended.record()
    ended.synchronize()
    return cuda.get_elapsed_time(began, ended) / 1e3 / calls


def furthest(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest number of b."""
    a, b = a.astype("float32"), b.astype("float32")
    return float(abs(a - b).max() / abs(b).max())


# ---- matrix products -------------------------------------------------------------------------------------------------


def matmul_rows(tiny: bool = False) -> Iterator[Row]:
    """Each step of the ladder in each layout of back-propagation, and its share of cuBLAS's speed in the same run."""
    rng, wrong = np.random.default_rng(0), []
    for dtype, steps in (("float32", STEPS[:3]), ("bfloat16", STEPS[3:4])):
        for n in (64,) if tiny else (1024, 2048, 4096, 8192):
            first, second = (array(rng.standard_normal((n, n), np.float32), dtype) for _ in range(2))
            for layout in LAYOUTS:
                a, b = {"y": (first, second.T), "dx": (first, second), "dw": (first.T, second)}[layout]
                c, expected = (array(np.zeros((n, n)), dtype) for _ in range(2))
                best = seconds(partial(matmul, a, b, expected, step="cublas"))
                yield matmul_row(n, dtype, layout, "cublas", best, best)
                for step in steps:
                    if n > SLOWEST.get(step, n):
                        continue
                    took = seconds(partial(matmul, a, b, c, step=step))
                    difference = furthest(c, expected)
                    if not difference < 1e-2:
                        wrong.append(f"{step} {dtype} {n} {layout}: the result is {difference:.1e} off cuBLAS's")
                    yield matmul_row(n, dtype, layout, step, took, best)
    tell(wrong)


def tell(wrong: list[str]) -> None:
    """After everything is measured."""
    if wrong:
        raise SystemExit("\n".join(wrong))


def matmul_row(n: int, dtype: str, layout: str, step: str, took: float, best: float) -> Row:
    rate = 2 * n**3 / took / 1e12
    return {"size": n, "dtype": dtype, "layout": layout, "step": step, "TFLOP/s": rate, "of cuBLAS": best / took}


# ---- attention -------------------------------------------------------------------------------------------------------


def attention_rows(tiny: bool = False) -> Iterator[Row]:
    """Forward and backward in bfloat16, beside PyTorch's fused attention where it is installed with CUDA."""
    rng, wrong = np.random.default_rng(0), []
    tokens, width = (128, 128) if tiny else (TOKENS, WIDTH)
    on_host = [rng.standard_normal(tokens * width, np.float32) for _ in range(4)]
    on_device = [array(a, "bfloat16") for a in on_host]
    for D in (64, 128):
        for T in (128,) if tiny else (1024, 2048, 4096, 8192, 16384):
            shape = B, _, H, _ = tokens // T, T, width // D, D
            for causal in (True, False):
                operations = 4 * B * H * T * T * D / (2 if causal else 1)  # as everyone counts: two products, a half each
                ours = ours_and_seconds([a.reshape(shape) for a in on_device], causal)
                theirs = torch_and_seconds([a.reshape(shape) for a in on_host], causal)
                if theirs is not None and not np.abs(ours[2] - theirs[2]).max() < 5e-2:
                    wrong.append(f"attention T={T} D={D} causal={causal}: the result is not PyTorch's")
                for i, (name, products) in enumerate((("forward", 1), ("backward", 2.5))):
                    row: Row = {"D": D, "T": T, "causal": causal, "pass": name}
                    row["TFLOP/s"] = products * operations / ours[i] / 1e12
                    row["times PyTorch"] = None if theirs is None else theirs[i] / ours[i]
                    yield row
    tell(wrong)


def ours_and_seconds(arrays: list[Any], causal: bool) -> tuple[float, float, np.ndarray]:
    """Of forward and backward; and the result of the first sequence."""
    q, k, v, dy = arrays
    y, lse = attention.attention_forward(q, k, v, causal=causal)
    forward = seconds(lambda: attention.attention_forward(q, k, v, causal=causal))
    backward = seconds(lambda: attention.attention_backward(dy, q, k, v, y, lse, causal=causal))
    return forward, backward, device.to_host(y[0].astype("float32"))


def torch_and_seconds(arrays: list[np.ndarray], causal: bool) -> tuple[float, float, np.ndarray] | None:
    try:
        import torch
    except ImportError:
        return None
    if not on_gpu() or not torch.cuda.is_available():
        return None
    q, k, v, dy = (torch.from_numpy(a).cuda().bfloat16().transpose(1, 2) for a in arrays)
    q, k, v = (a.requires_grad_() for a in (q, k, v))

    def run() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def timed(call: Callable[[], Any], calls: int) -> float:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(calls):
            call()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1e3 / calls

    def measured(call: Callable[[], Any]) -> float:
        call()
        calls = max(1, int(SECONDS / timed(call, 1)))
        return statistics.median(timed(call, calls) for _ in range(TIMINGS))

    y = run()
    backward = measured(lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))
    with torch.no_grad():
        forward = measured(run)
    return forward, backward, y.detach().transpose(1, 2)[0].float().cpu().numpy()


def decoding_rows(tiny: bool = False) -> Iterator[Row]:
    """One query a sequence: bytes of keys and values read in a second, and the share of what a copy of as many moves."""
    rng = np.random.default_rng(0)
    for H, G, D in ((12, 12, 64), (32, 8, 128)):
        for S in (200,) if tiny else (1024, 4096, 16384):
            for B in (1,) if tiny else (1, 16):
                q = array(rng.standard_normal((B, 1, H, D), np.float32), "bfloat16")
                one = rng.standard_normal((2, 1, S, G, D), np.float32)
                cache = array(np.repeat(one, B, 1), "bfloat16")
                k, v, target = cache[0], cache[1], cache.copy()
                took = seconds(partial(attention.attention_forward, q, k, v, causal=True))
                copying = seconds(partial(target.__setitem__, ..., cache)) / 2  # it reads and writes
                row = {"B": B, "S": S, "H": H, "G": G, "D": D, "microseconds": took * 1e6}
                yield {**row, "GB/s": cache.nbytes / took / 1e9, "of copy": copying / took}


# ---- the script ------------------------------------------------------------------------------------------------------

PARTS = {"matmul": matmul_rows, "attention": attention_rows, "decoding": decoding_rows}


def measure(parts: list[str], tiny: bool = False) -> dict[str, Any]:
    """Everything measured, as JSON can hold it: the card, and a list of rows for each part."""
    return {"device": card(), **{part: list(PARTS[part](tiny)) for part in parts}}


def card() -> str:
    if not on_gpu():
        return "emulated: the times mean nothing"
    properties = device.cupy().cuda.runtime.getDeviceProperties(0)
    return properties["name"].decode()


def table(part: str, rows: list[Row]) -> Table:
    table = Table(*rows[0], title=part)
    for row in rows:
        table.add_row(*(f"{x:.3g}" if isinstance(x, float) else "-" if x is None else str(x) for x in row.values()))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script out")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no part; there are {', '.join(PARTS)}")
    try:
        on_gpu() and device.cupy()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    measured = measure(options.parts or list(PARTS), options.tiny)
    console = Console()
    console.print(measured["device"])
    for part, rows in measured.items():
        if part != "device":
            console.print(table(part, rows))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
