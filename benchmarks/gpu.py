"""Everything that is to be known of the CUDA kernels on a real GPU, in one call, within ten minutes, as JSON.

    python -m pip install --no-build-isolation --no-deps --editable .
    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py tests sanitizer

    tests      every op and model on the GPU, held to the reference set
    training   GPT-2 124M, T = 1024, float32 and bfloat16: tokens a second, the share of the card's rate, beside PyTorch
    generation GPT-2 124M, greedy, one row and several: with CUDA graphs, without them, beside transformers
    bandwidth  softmax, norms and the like, AdamW: the share of what a plain copy moves, measured in the same run
    attention  beside PyTorch's  |
    matmul     beside cuBLAS     | those of cuda_kernels.py
    decoding   its bandwidth     |
    sanitizer  the tests with few examples under compute-sanitizer: memcheck, and racecheck of shared memory

It needs NumPy, Numba, CuPy, ml_dtypes, pytest and hypothesis, no network; PyTorch and transformers to stand beside.

Each part is a process of its own with a limit of time; one that fails is told as failed, with the end of what it said, and
the others go on. A row is kept from when it is measured, whatever comes after it; FILE is written after each part. No GPU:
one sentence, and no figures. --tiny with TINYLLM_DEVICE=emulated tries the script out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from cuda_kernels import PARTS, Row, array, card, on_gpu, seconds

import tinyllm
from tinyllm import kernels
from tinyllm.kernels.cuda import device
from tinyllm.kernels.cuda.blas import bfloat16, gemm
from tinyllm.kernels.cuda.few_rows import FEW
from tinyllm.optim import clip_factor

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
SAID = 8000  # characters of a part's output that are kept
LIMITS = {  # seconds
    "tests": 150, "training": 160, "generation": 50, "bandwidth": 50, "attention": 70, "matmul": 40, "decoding": 40,
    "sanitizer": 200,
}  # fmt: skip
TOOLS = ("memcheck", "racecheck")  # of compute-sanitizer
# CuPy keeps freed memory, and what is read or written beside an array there goes unnoticed: without that
UNPOOLED = "import sys, cupy, pytest; cupy.cuda.set_allocator(None); sys.exit(pytest.main(sys.argv[1:]))"


# ---- what is measured here -------------------------------------------------------------------------------------------


def bandwidth_rows(tiny: bool = False) -> Iterator[Row]:
    """Each op's bytes, read and written once each, by the time it takes, beside those of a copy."""
    n = 1000 if tiny else 124_000_000
    rng = np.random.default_rng(0)
    for dtype in ("float32", "bfloat16"):
        flat = [array(rng.random(n, np.float32), dtype) for _ in range(4)]
        copied, target = flat[0], flat[1].copy()
        copy = 2 * copied.nbytes / seconds(partial(target.__setitem__, ..., copied))
        yield {"op": "copy", "dtype": dtype, "GB/s": copy / 1e9, "of copy": 1.0}
        calls = {**calls_over_rows(dtype, tiny), "adam_step": ((*flat, 1, 1e-3), 7 * n), "global_norm": ((flat[0],), n)}
        for op, (arguments, numbers) in calls.items():
            compute = kernels.implementation(op, "cuda")
            rate = numbers * copied.itemsize / seconds(partial(compute, *arguments))
            yield {"op": op, "dtype": dtype, "GB/s": rate / 1e9, "of copy": rate / copy}
        if dtype == "float32":  # what a step in bfloat16 begins with: 6 bytes for each parameter
            rate = 1.5 * copied.nbytes / seconds(partial(copied.astype, bfloat16()))
            yield {"op": "to bfloat16", "dtype": dtype, "GB/s": rate / 1e9, "of copy": rate / copy}


def calls_over_rows(dtype: str, tiny: bool) -> dict[str, tuple[tuple[Any, ...], int]]:
    """op -> its arguments, and how many numbers it reads or writes."""
    N, C, V = (8, 64, 100) if tiny else (16_384, 768, 50_304)
    rng = np.random.default_rng(0)
    x, dy, r = (array(rng.standard_normal((N, C), np.float32), dtype) for _ in range(3))
    w, b = (array(rng.standard_normal(C, np.float32), dtype) for _ in range(2))
    mean, rstd, dw, db = (array(np.zeros(m, np.float32), "float32") for m in (N, N, C, C))
    logits, t = array(rng.standard_normal((min(N, 4096), V), np.float32), dtype), rng.integers(0, V, min(N, 4096))
    lse = array(np.zeros(len(t), np.float32), "float32")
    gate = array(rng.standard_normal((N, 2 * C), np.float32), dtype)
    return {
        "softmax_forward": ((logits,), 2 * logits.size),
        "softmax_backward": ((logits, logits), 3 * logits.size),
        "layernorm_forward": ((x, w, b), 2 * x.size),
        "add_layernorm_forward": ((x, r, w, b), 4 * x.size),
        "layernorm_backward": ((dy, x, w, mean, rstd, dw, db), 3 * x.size),
        "rmsnorm_forward": ((x, w), 2 * x.size),
        "rmsnorm_backward": ((dy, x, w, rstd, dw), 3 * x.size),
        "activation_forward": ((gate, "gelu_tanh"), 2 * gate.size),
        "activation_backward": ((gate, gate, "gelu_tanh"), 3 * gate.size),
        "gated_forward": ((gate, "silu"), 3 * x.size),
        "dropout_forward": ((x, 0.1, 1), 2 * x.size),
        "rotary_forward": ((x.reshape(8, N // 8, -1, 32), np.arange(N // 8), 1 / np.arange(1, 17)), 2 * x.size),
        "cross_entropy_forward": ((logits, t), logits.size),
        "cross_entropy_backward": ((1.0, logits, t, lse), 2 * logits.size),
    }


def training_rows(tiny: bool = False) -> Iterator[Row]:
    """A step of forward, backward, clipping and AdamW, on random tokens; PyTorch's where it is installed with CUDA.

    bfloat16: activations are, and copies of the parameters (tinyllm.autocast); PyTorch's is autocast. Operations as in PaLM
    (Chowdhery et al. 2022, appendix B): 6 for each parameter and token, 12 L T C for each token's attention. The card's rate
    is that of cuBLAS at 8192^3, measured here, in the same dtype, without TF32.
    """
    sizes: dict[str, Any] = (
        {"vocab_size": 101, "n_positions": 16, "n_layer": 1, "n_head": 2, "n_embd": 16} if tiny else {"vocab_size": 50304}
    )
    config = tinyllm.GPTConfig(**sizes, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    B, T, steps = (2, 16, 2) if tiny else (sequences(), 1024, 5)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (B, T + 1))
    x, y = tokens[:, :-1], tokens[:, 1:]
    ceilings = {dtype: rate_of_products(64 if tiny else 8192, dtype) for dtype in kernels.PRECISIONS}
    with tempfile.TemporaryDirectory() as folder:
        for dtype, ceiling in ceilings.items():
            model = tinyllm.GPT(config).to("cuda")
            operations = B * T * (6 * model.n_parameters + 12 * config.n_layer * T * config.n_embd)
            tinyllm.huggingface.save(folder + "/same", model)
            ours = training_row(f"tinyllm {dtype}", tinyllm_step(model, dtype, x, y), steps, B * T, operations, ceiling)
            yield ours
            del model
            if not has_torch():
                continue
            theirs = torch_row(folder + "/same", dtype, False, x, y, steps, operations, ceiling)
            yield from beside(ours, theirs, dtype)
            if not abs(theirs["first loss"] - ours["first loss"]) < (1e-3 if dtype == "float32" else 0.05):
                raise SystemExit(f"the first loss is {ours['first loss']}, and PyTorch's {theirs['first loss']}")
        if has_torch():  # it takes a minute to compile: last
            yield from beside(ours, torch_row(folder + "/same", dtype, True, x, y, steps, operations, ceiling), dtype)


def sequences() -> int:
    """In a batch: as many as fill a large card, or fewer where PyTorch would not find room for them."""
    _, memory = device.cupy().cuda.runtime.memGetInfo()
    return 32 if memory > 60 * 2**30 else 8


def beside(ours: Row, theirs: Row, dtype: str) -> Iterator[Row]:
    yield theirs
    yield {"name": f"tinyllm beside {theirs['name']}", "times PyTorch": ours["tokens/s"] / theirs["tokens/s"]}


def tinyllm_step(model: tinyllm.GPT, dtype: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    optimizer = tinyllm.Adam(model, lr=3e-4, weight_decay=0.1)

    def step() -> float:
        model.zero_grad()
        with tinyllm.autocast(dtype):
            loss = model.loss(x, y)
            model.backward()
        norm = kernels.global_norm(model.flat.grad)  # it waits for the GPU: all of the step but the update lies before it
        optimizer.step(clip_factor(norm, 1.0))
        return loss

    return step


def rate_of_products(n: int, dtype: str) -> float:
    """Operations in a second of a product n^3."""
    a, b, c = (array(np.ones((n, n), np.float32), dtype) for _ in range(3))
    return 2 * n**3 / seconds(lambda: gemm(a, b, c))


def training_row(name: str, step: Callable[[], float], steps: int, tokens: int, operations: int, ceiling: float) -> Row:
    first = float(step())
    step()  # memory is in the pools from here on
    began = time.perf_counter()
    for _ in range(steps):
        last = float(step())
    took = (time.perf_counter() - began) / steps
    row = {"name": name, "first loss": first, "last loss": last, "seconds": took, "tokens/s": tokens / took}
    return {**row, "TFLOP/s": operations / took / 1e12, "of the card's products": operations / took / ceiling}


def has_torch() -> bool:
    """And transformers, and a GPU that they can use."""
    if not on_gpu() or any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return False
    import torch

    return torch.cuda.is_available()


def torch_row(
    folder: str, dtype: str, compiled: bool, x: np.ndarray, y: np.ndarray, steps: int, operations: int, ceiling: float
) -> Row:
    """The same model of transformers', with fused attention and AdamW."""
    import torch
    import transformers

    torch.backends.cuda.matmul.allow_tf32 = False
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa")
    model.to("cuda")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True)
    tokens, targets = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(run(tokens).logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return training_row(f"PyTorch {'compiled' if compiled else 'eager'} {dtype}", step, steps, x.size, operations, ceiling)


def generation_rows(tiny: bool = False) -> Iterator[Row]:
    """Greedy tokens behind a prompt, the prompt's time included, of random weights; those of a graph are to be the same as
    those without. bfloat16: weights too; transformers' model is converted."""
    sizes: dict[str, Any] = {"vocab_size": 101, "n_positions": 32, "n_layer": 1, "n_head": 2, "n_embd": 16} if tiny else {}
    config, T, new = tinyllm.GPTConfig(**sizes), *((4, 6) if tiny else (16, 200))
    model = tinyllm.GPT(config).to("cuda")
    prompts = [np.random.default_rng(0).integers(0, config.vocab_size, (B, T)) for B in (1, FEW)]
    rates: dict[tuple[str, int], float] = {}
    for dtype in kernels.PRECISIONS:
        for tokens in prompts:
            generate = partial(tinyllm.generate, model, tokens, new, eos_id=())
            with tinyllm.autocast(dtype):
                ours, texts = generation_row(f"tinyllm {dtype}", generate, tokens, new)
                with mock.patch("tinyllm.generation.cache.is_recordable", lambda *_: False):
                    launched, same = generation_row(f"tinyllm {dtype}, no graph", generate, tokens, new)
            rates[dtype, len(tokens)] = ours["tokens/s"]
            gained = ours["tokens/s"] / launched["tokens/s"]
            yield from (ours, launched | {"same tokens": np.array_equal(texts, same), "graph's tokens/s by these": gained})
    if has_torch():
        with tempfile.TemporaryDirectory() as folder:
            tinyllm.huggingface.save(folder, model)
            for dtype in kernels.PRECISIONS:
                for tokens in prompts:
                    theirs, _ = generation_row(f"PyTorch {dtype}", torch_generate(folder, dtype, tokens, new), tokens, new)
                    yield theirs | {"times PyTorch": rates[dtype, len(tokens)] / theirs["tokens/s"]}


def generation_row(name: str, generate: Callable[[], Any], tokens: np.ndarray, new: int) -> tuple[Row, Any]:
    """And what was generated."""
    generate()
    began = time.perf_counter()
    texts = generate()
    took = time.perf_counter() - began
    row = {"name": name, "rows": len(tokens), "milliseconds a step": 1e3 * took / new}
    return row | {"tokens/s": len(tokens) * new / took}, texts


def torch_generate(folder: str, dtype: str, tokens: np.ndarray, new: int) -> Callable[[], Any]:
    import torch
    import transformers

    torch.backends.cuda.matmul.allow_tf32 = False
    how = {"attn_implementation": "sdpa", "dtype": getattr(torch, dtype)}
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(folder, **how)
    model.cuda().eval()
    given = torch.from_numpy(tokens).cuda()
    options: dict[str, Any] = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return lambda: model.generate(given, attention_mask=torch.ones_like(given), **options).cpu().numpy()


# ---- the parts, each a process ---------------------------------------------------------------------------------------

MEASURED = {"training": training_rows, "generation": generation_rows, "bandwidth": bandwidth_rows, **PARTS}


def run(command: list[str], limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Whether it ended well, its seconds, and the end of what it said. What it has started ends with it."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            ok, late = process.wait(limit) == 0, ""
        except subprocess.TimeoutExpired:
            ok, late = False, f"\nnot ended after {limit:.0f} seconds"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")[-SAID:] + late
    return {"ok": ok, "seconds": round(time.perf_counter() - began, 1), "said": said}


def run_part(part: str, limit: float, tiny: bool) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TINYLLM_DEVICE": "gpu" if on_gpu() else "emulated",
        "HYPOTHESIS_PROFILE": "few" if tiny or part == "sanitizer" else "ci",
        "HF_HUB_OFFLINE": "1",
    }
    if part == "tests":
        environment["CUDA_LAUNCH_BLOCKING"] = "1"  # so that an error is told where it happens
        return run([sys.executable, "-m", "pytest", *tests(tiny)], limit, environment)
    if part == "sanitizer":
        return sanitized(limit, environment)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows")
        command = [sys.executable, __file__, "--measure", part, "--json", str(rows), *(["--tiny"] if tiny else [])]
        done = run(command, limit, environment)
        done["rows"] = [json.loads(line) for line in rows.read_text("utf-8").splitlines()] if rows.exists() else []
        return done


def tests(tiny: bool) -> list[str]:
    """What pytest is to run, and how: others' warnings fail nothing here, and one failure hides no other."""
    how = ["-q", "--tb=short", "--maxfail=40", "-p", "no:cacheprovider", "-W", "default"]
    if tiny:
        return [*how, str(TESTS / "kernels" / "test_ops.py"), "-k", "softmax and cuda"]
    if importlib.util.find_spec("xdist"):
        how += ["-n", str(min(8, os.cpu_count() or 1))]  # nearly all time goes into compiling kernels
    files = [
        *(TESTS / "kernels").glob("test_*.py"),
        *(TESTS / "models").glob("test_*on_cuda.py"),
        TESTS / "test_on_device.py",
    ]
    return [*how, *(str(file) for file in sorted(files) if file.stem != "test_emulator"), "-k", "cuda or on_device"]


def sanitized(limit: float, environment: dict[str, str]) -> dict[str, Any]:
    toolkit = os.environ.get("CUDA_PATH", "/usr/local/cuda")
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=f"{toolkit}/bin")
    if sanitizer is None:
        return {"ok": False, "said": "compute-sanitizer is not installed; it comes with NVIDIA's CUDA toolkit"}
    files = [
        str(TESTS / "kernels" / f"test_{name}.py")
        for name in ("cuda_matmul", "cuda_attention", "cuda_bfloat16", "cuda_graph", "ops")
    ]
    which = "layouts or append or what_is_there or last_query or (equals and cuda and not float64)"
    pytest = [sys.executable, "-c", UNPOOLED, "-v", "-p", "no:cacheprovider", "-W", "default", *files, "-k", which]
    found = {}
    for tool in TOOLS:
        command = [sanitizer, "--tool", tool, "--error-exitcode", "1", "--report-api-errors", "no", *pytest]
        found[tool] = run(command, limit / len(TOOLS), environment)
    return {"ok": all(tool["ok"] for tool in found.values()), **found}


def facts() -> dict[str, Any]:
    """The machine: what figures are worth nothing without."""
    about: dict[str, Any] = {"card": card(), "python": platform.python_version(), "tinyllm": tinyllm.__version__}
    if on_gpu():
        cupy = device.cupy()
        runtime = cupy.cuda.runtime
        about |= {"cupy": cupy.__version__, "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}
        about["memory"] = runtime.memGetInfo()[1]
    return about


def report(part: str, result: dict[str, Any]) -> None:
    """What there is to quote, or to mend."""
    print(f"{part}: {'well' if result['ok'] else 'FAILED'}", flush=True)
    for row in result.get("rows", ()):
        print("   ", ", ".join(f"{k} {x:.4g}" if isinstance(x, float) else f"{k} {x}" for k, x in row.items()), flush=True)
    for process in (result, *(result[tool] for tool in TOOLS if tool in result)):
        if "said" in process and (part in ("tests", "sanitizer") or not process["ok"]):
            print(process["said"][-1500:], flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(LIMITS)}; all of them if not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, after each part")
    parser.add_argument("--seconds", type=float, default=570, help="that all parts together may take")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the script out")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)  # a part's own process
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in LIMITS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no part; there are {', '.join(LIMITS)}")
    try:
        on_gpu() and device.cupy()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    if options.measure:
        with options.json.open("w", encoding="utf-8") as file:
            for row in MEASURED[options.measure](options.tiny):
                print(json.dumps(row), file=file, flush=True)
        return 0
    result: dict[str, Any] = {"machine": facts()}
    print(result["machine"], flush=True)
    began = time.perf_counter()
    for part in options.parts or LIMITS:
        left = options.seconds - (time.perf_counter() - began)
        result[part] = run_part(part, max(1, min(left, LIMITS[part])), options.tiny)
        report(part, result[part])
        if options.json:
            options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if not options.json:
        print(json.dumps(result, indent=1))
    return int(not all(result[part]["ok"] for part in options.parts or LIMITS))


if __name__ == "__main__":
    sys.exit(main())
