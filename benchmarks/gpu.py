"""Everything that is to be known of the CUDA kernels on a real GPU, in one call, within ten minutes, as JSON.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py tests sanitizer

    tests      every op on the GPU, held to the reference set
    sanitizer  the same with few examples under compute-sanitizer: memcheck, and racecheck of shared memory
    kernels    cuda_kernels.py: matrix products beside cuBLAS, attention beside PyTorch's, decoding's bandwidth
    bandwidth  softmax, norms and the like, AdamW: the share of what a plain copy moves, measured in the same run
    training   GPT-2 124M, T = 1024, float32 and bfloat16: tokens a second, the share of the card's rate, beside PyTorch

Each part is a process of its own with a limit of time; one that fails is told as failed, with the end of what it said, and
the others go on. No GPU: one sentence, and no figures. --tiny with TINYLLM_DEVICE=emulated tries the script out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cuda_kernels import Row, array, card, on_gpu, seconds

import tinyllm
from tinyllm import kernels
from tinyllm.kernels.cuda import device
from tinyllm.kernels.cuda.blas import bfloat16, gemm

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests" / "kernels"
SAID = 2000  # characters of a part's output that are kept
LIMITS = {"tests": 180, "sanitizer": 100, "kernels": 150, "bandwidth": 40, "training": 90}  # seconds, sanitizer's for each


# ---- what is measured here -------------------------------------------------------------------------------------------


def bandwidth_rows(tiny: bool = False) -> Iterator[Row]:
    """Each op's bytes, read and written once each, by the time it takes, beside those of a copy."""
    N, C, V, n = (8, 64, 100, 1000) if tiny else (16_384, 768, 50_304, 124_000_000)
    rng = np.random.default_rng(0)
    for dtype in ("float32", "bfloat16"):
        x, dy, r = (array(rng.standard_normal((N, C), np.float32), dtype) for _ in range(3))
        w, b = (array(rng.standard_normal(C, np.float32), dtype) for _ in range(2))
        mean, rstd, dw, db = (array(np.zeros(m, np.float32), "float32") for m in (N, N, C, C))
        logits, t = array(rng.standard_normal((min(N, 4096), V), np.float32), dtype), rng.integers(0, V, min(N, 4096))
        lse = array(np.zeros(len(t), np.float32), "float32")
        gate = array(rng.standard_normal((N, 2 * C), np.float32), dtype)
        flat = [array(rng.random(n, np.float32), dtype) for _ in range(4)]
        calls: dict[str, tuple[tuple[Any, ...], int]] = {  # op -> its arguments, numbers that it reads or writes
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
            "cross_entropy_forward": ((logits, t), logits.size),
            "cross_entropy_backward": ((1.0, logits, t, lse), 2 * logits.size),
            "adam_step": ((*flat, 1, 1e-3), 7 * n),
            "global_norm": ((flat[0],), n),
        }
        copied, target = flat[0], flat[1].copy()
        copy = 2 * copied.nbytes / seconds(lambda to=target, a=copied: to.__setitem__(..., a))
        yield {"op": "copy", "dtype": dtype, "GB/s": copy / 1e9, "of copy": 1.0}
        for op, (arguments, numbers) in calls.items():
            compute = kernels.implementation(op, "cuda")
            rate = numbers * x.itemsize / seconds(lambda f=compute, a=arguments: f(*a))
            yield {"op": op, "dtype": dtype, "GB/s": rate / 1e9, "of copy": rate / copy}
        if dtype == "float32":  # what a step in bfloat16 begins with: 6 bytes for each parameter
            rate = 1.5 * copied.nbytes / seconds(lambda a=copied: a.astype(bfloat16()))
            yield {"op": "to bfloat16", "dtype": dtype, "GB/s": rate / 1e9, "of copy": rate / copy}


def training_rows(tiny: bool = False) -> Iterator[Row]:
    """A step of forward, backward, clipping and AdamW, on random tokens; PyTorch's where it is installed with CUDA.

    bfloat16: activations are, and copies of the parameters (Model.in_bfloat16); PyTorch's is autocast. Operations as in PaLM
    (Chowdhery et al. 2022, appendix B): 6 for each parameter and token, 12 L T C for each token's attention. The card's rate
    is that of cuBLAS at 8192^3, measured here, in the same dtype, without TF32.
    """
    sizes = (
        {"vocab_size": 101, "n_positions": 16, "n_layer": 1, "n_head": 2, "n_embd": 16} if tiny else {"vocab_size": 50304}
    )
    config = tinyllm.GPTConfig(**sizes, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    B, T, steps = (2, 16, 2) if tiny else (8, 1024, 5)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (B, T + 1))
    x, y = tokens[:, :-1], tokens[:, 1:]
    for dtype in kernels.PRECISIONS:
        ceiling = rate_of_products(64 if tiny else 8192, dtype)
        model = tinyllm.GPT(config).to("cuda")
        operations = B * T * (6 * model.n_parameters + 12 * config.n_layer * T * config.n_embd)
        with tempfile.TemporaryDirectory() as folder:
            tinyllm.huggingface.save(folder + "/same", model)
            ours = training_row(f"tinyllm {dtype}", tinyllm_step(model, dtype, x, y), steps, B * T, operations, ceiling)
            yield ours
            del model
            theirs = torch_row(folder + "/same", dtype, x, y, steps, operations, ceiling)
        if theirs is None:
            continue
        if not abs(theirs["first loss"] - ours["first loss"]) < (1e-3 if dtype == "float32" else 0.05):
            raise SystemExit(f"the first loss is {ours['first loss']}, and PyTorch's {theirs['first loss']}")
        yield theirs
        yield {"name": f"tinyllm beside PyTorch {dtype}", "times PyTorch": ours["tokens/s"] / theirs["tokens/s"]}


def tinyllm_step(model: tinyllm.GPT, dtype: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    optimizer = tinyllm.Adam(model, lr=3e-4, weight_decay=0.1)

    def step() -> float:
        model.zero_grad()
        with model.in_bfloat16() if dtype == "bfloat16" else contextlib.nullcontext():
            loss = model.loss(x, y)
            model.backward()
        tinyllm.clip_grad_norm(model, 1.0)  # it waits for the GPU: all of the step but the update lies before it
        optimizer.step()
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


def torch_row(
    folder: str, dtype: str, x: np.ndarray, y: np.ndarray, steps: int, operations: int, ceiling: float
) -> Row | None:
    """The same model of transformers', eager, with fused attention and AdamW; None without PyTorch on a GPU."""
    if not on_gpu():
        return None
    try:
        import torch
        import transformers
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa").cuda()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True)
    tokens, targets = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(tokens).logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return training_row(f"PyTorch eager {dtype}", step, steps, x.size, operations, ceiling)


# ---- the parts, each a process ---------------------------------------------------------------------------------------

MEASURED = {"bandwidth": bandwidth_rows, "training": training_rows}


def run(command: list[str], limit: float, environment: dict[str, str]) -> dict[str, Any]:
    """Whether it ended well, its seconds, and the end of what it said."""
    began = time.perf_counter()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
        ok, said = done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        ok, said = False, f"{(error.stdout or b'').decode(errors='replace')}\nnot ended after {limit:.0f} seconds"
    return {"ok": ok, "seconds": round(time.perf_counter() - began, 1), "said": said[-SAID:]}


def run_part(part: str, tiny: bool) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TINYLLM_DEVICE": "gpu" if on_gpu() else "emulated",
        "HYPOTHESIS_PROFILE": "few" if tiny else "ci",
    }
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(TESTS / "test_ops.py")]
    if part == "tests":
        more = (
            []
            if tiny
            else [str(path) for path in sorted(TESTS.glob("test_*.py")) if path.stem not in ("test_ops", "test_emulator")]
        )
        return run([*pytest, *more, "-k", "softmax and cuda" if tiny else "cuda"], LIMITS[part], environment)
    if part == "sanitizer":
        sanitizer = shutil.which("compute-sanitizer")
        if sanitizer is None:
            return {"ok": False, "said": "compute-sanitizer is not installed; it comes with NVIDIA's CUDA toolkit"}
        environment["HYPOTHESIS_PROFILE"] = "few"
        found = {}
        for tool in ("memcheck", "racecheck"):
            command = [sanitizer, "--tool", tool, "--error-exitcode", "1", *pytest, "-k", "equals and cuda and float32"]
            found[tool] = run(command, LIMITS[part], environment)
        return {"ok": all(tool["ok"] for tool in found.values()), **found}
    with tempfile.TemporaryDirectory() as folder:
        script = "cuda_kernels.py" if part == "kernels" else "gpu.py"
        command = [sys.executable, str(HERE / script), "--json", f"{folder}/rows.json", *(["--tiny"] if tiny else [])]
        done = run([*command, *([] if part == "kernels" else ["--measure", part])], LIMITS[part], environment)
        if done["ok"]:
            done["rows"] = json.loads(Path(folder, "rows.json").read_text(encoding="utf-8"))
        return done


def facts() -> dict[str, Any]:
    """The machine: what figures are worth nothing without."""
    about: dict[str, Any] = {"card": card(), "python": platform.python_version(), "tinyllm": tinyllm.__version__}
    if on_gpu():
        cupy = device.cupy()
        runtime = cupy.cuda.runtime
        about |= {"cupy": cupy.__version__, "driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()}
        about["memory"] = runtime.memGetInfo()[1]
    return about


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(LIMITS)}; all of them if not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, after each part")
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
        options.json.write_text(json.dumps(list(MEASURED[options.measure](options.tiny))), encoding="utf-8")
        return 0
    result: dict[str, Any] = {"machine": facts()}
    for part in options.parts or LIMITS:
        result[part] = run_part(part, options.tiny)
        print(f"{part}: {'well' if result[part]['ok'] else 'FAILED'}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if not options.json:
        print(json.dumps(result, indent=1))
    return int(not all(result[part]["ok"] for part in options.parts or LIMITS))


if __name__ == "__main__":
    sys.exit(main())
