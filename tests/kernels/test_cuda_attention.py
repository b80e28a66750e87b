"""Attention's CUDA kernels beyond what test_ops.py asks of every set: bfloat16, decoding, packed arrays, waits."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from calls import backward, cotangents, error, forward, function
from hypothesis import given, settings
from hypothesis import strategies as st
from on_cuda import require_bfloat16
from strategies import calls

from tinyllm.kernels.cuda import attention, device
from tinyllm.kernels.cuda import module as launching
from tinyllm.kernels.cuda.emulator import EmulatorError
from tinyllm.kernels.reference.attention import attention_backward, attention_forward

RNG = np.random.default_rng(3)
bfloat16 = require_bfloat16()
emulated_only = pytest.mark.skipif(not device.emulated(), reason="changes a kernel's source, and runs it in the emulator")


def widened(arguments):
    return {n: a.astype("f8") if isinstance(a, np.ndarray) and a.dtype.kind in "fV" else a for n, a in arguments.items()}


def narrowed(arguments):
    return {n: a.astype(bfloat16) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for n, a in arguments.items()}


@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_bfloat16_equals_the_reference(data):
    """Up to the three digits of bfloat16; the truth is the reference in float64, on the same numbers."""
    d, arguments = data.draw(calls("attention", "float32"))
    if data.draw(st.booleans()):  # most sizes that are drawn are not for tensor cores
        D = data.draw(st.sampled_from((8, 32, 64, 72, 128)))
        arguments.update({n: d.normal(*arguments[n].shape[:3], D) for n in "qkv"})
    arguments = narrowed(arguments)
    outputs, truth = forward("attention", "cuda", arguments), forward("attention", "reference", widened(arguments))
    assert outputs["lse"].dtype == np.float64
    assert error(outputs["y"], truth["y"]) < 1e-2 and error(outputs["lse"], truth["lse"]) < 1e-5

    given = narrowed({"dy": cotangents("attention", d, {"y": truth["y"]})["dy"]})
    if arguments["bias"] is not None:
        given["dbias"] = np.ones(arguments["bias"].shape, np.float32)
    wide = {n: a.copy() for n, a in widened(given).items()}
    # y is rounded, and over many queries of few keys that shows in dk: both backwards are given the same y
    expected = backward("attention", "reference", widened(arguments), widened(outputs), wide)
    gradients = backward("attention", "cuda", arguments, outputs, given)
    for name in (*given, "dq", "dk", "dv"):
        assert gradients[name].dtype == (np.float32 if name == "dbias" else bfloat16)
        assert error(gradients[name], expected[name]) < 3e-2, name


@settings(max_examples=max(settings.default.max_examples // 2, 8))
@given(st.data())
def test_blocks_take_turns(data):
    """Three blocks of keys and more add to dq, each in its turn: as the reference has it, and the same bits every time."""
    T, S = (data.draw(st.sampled_from((9, 64, 130, 257, 300, 320))) for _ in "TS")
    G, per_group, D = (data.draw(st.sampled_from(sizes)) for sizes in ((1, 2), (1, 3), (32, 64, 128)))
    mask = RNG.random((1, S)) < data.draw(st.sampled_from((0.0, 0.5, 1.0))) if data.draw(st.booleans()) else None
    options = {
        "mask": mask,
        "causal": data.draw(st.booleans()),
        "window": data.draw(st.sampled_from((None, None, 1, 70, 150, 0, -5))),
        "dropout": data.draw(st.sampled_from((0.0, 0.0, 0.2))),
        "seed": 7,
    }
    q, dy = RNG.standard_normal((2, 1, T, G * per_group, D)).astype(bfloat16)
    k, v = RNG.standard_normal((2, 1, S, G, D)).astype(bfloat16)
    wide = [a.astype("f8") for a in (q, k, v)]
    y, lse = attention_forward(*wide, **options)
    given = dy, q, k, v, y.astype(bfloat16), lse.astype("f4")
    gradients, again = (function("attention_backward", "cuda")(*given, **options) for _ in range(2))
    for name, a, b, c in zip("qkv", gradients, again, attention_backward(dy.astype("f8"), *wide, y, lse, **options)):
        assert error(a, c) < 2e-2 and (a.view("u2") == b.view("u2")).all(), name


def test_a_gradient_that_begins_anywhere():
    """Tensor cores' copies want multiples of 16 bytes; dy may be a part of something that does not give them."""
    q, k, v = RNG.standard_normal((3, 1, 20, 1, 32)).astype(bfloat16)
    dy = np.zeros(641, bfloat16)[1:].reshape(q.shape)
    dy[...] = RNG.standard_normal(q.shape)
    y, lse = function("attention_forward", "cuda")(q, k, v)
    there, copy = (function("attention_backward", "cuda")(a, q, k, v, y, lse) for a in (dy, dy.copy()))
    assert all((a.view("u2") == b.view("u2")).all() for a, b in zip(there, copy))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("T", "S", "H", "G"), [(1, 700, 8, 2), (4, 300, 2, 2), (3, 64, 1, 1), (1, 1, 2, 1)])
def test_decoding(dtype, T, S, H, G):
    """Few queries, and more keys than one warp takes, in a cache that is longer than what is used of it."""
    q, cache = RNG.standard_normal((2, T, H, 64)), RNG.standard_normal((2, 2, S + 20, G, 64))
    q, k, v = (a.astype(bfloat16 if dtype == "bfloat16" else dtype) for a in (q, *cache))
    k, v, mask = k[:, :S], v[:, :S], RNG.random((2, S)) < 0.9
    options = {"mask": mask, "causal": True, "bias": RNG.standard_normal((H, T, S)).astype(q.dtype)}
    y, lse = function("attention_forward", "cuda")(q, k, v, **options)
    expected, expected_lse = attention_forward(*(a.astype("f8") for a in (q, k, v)), **widened(options))
    assert error(y, expected) < (1e-2 if dtype == "bfloat16" else 1e-6) and error(lse, expected_lse) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_of_one_array(dtype):
    """q, k, v as one projection gives them, and their gradients as its backward takes them."""
    dtype = bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    B, T, H, D = 2, 37, 2, 32
    qkv, dy = RNG.standard_normal((B, T, 3 * H, D)).astype(dtype), RNG.standard_normal((B, T, H, D)).astype(dtype)
    q, k, v = (qkv[:, :, i * H : (i + 1) * H] for i in range(3))
    y, lse = function("attention_forward", "cuda")(q, k, v, causal=True)
    dqkv = function("join_heads", "cuda")(*function("attention_backward", "cuda")(dy, q, k, v, y, lse, causal=True))
    wide = [a.astype("f8") for a in (q, k, v)]
    expected = attention_backward(dy.astype("f8"), *wide, *attention_forward(*wide, causal=True), causal=True)
    assert error(dqkv, np.concatenate(expected, 2)) < (2e-2 if dtype == bfloat16 else 1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict.fromkeys("qkv", np.zeros((1, 4, 2, 300), "f4")), "256.*300"),
        ({"k": np.zeros((1, 4, 3, 8), "f4")}, "H a multiple of G"),
        ({"v": np.zeros((1, 4, 2, 8))}, "float32, float32, float64"),
        ({"q": np.zeros((1, 4, 2, 8), "f2")}, "float16"),
        ({"mask": np.ones((1, 5), bool)}, "must be bool"),
        ({"mask": np.ones((1, 4))}, "must be bool"),
        ({"bias": np.zeros((1, 4, 4), "f4")}, r"bias is float32 \(1, 4, 4\); it must be float32 \(2, 4, 4\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, message):
    arguments = {n: np.zeros((1, 4, 2, 8), "f4") for n in "qkv"}
    with pytest.raises((TypeError, ValueError), match=message):
        function("attention_forward", "cuda")(**{**arguments, **change})


# ---- every wait is needed --------------------------------------------------------------------------------------------

WAITS = re.compile(r"__syncthreads\(\);|copy_async_wait<0>\(\);")


def waits(file: str, kernel: str) -> list[int]:
    """Where the kernel's loop over tiles waits."""
    code = (Path(attention.__file__).parent / file).read_text(encoding="utf-8")
    loop = "; which ^= 1" if kernel == "backward" else "; start += "
    start = code.index(loop, code.index(f"attention_{kernel}("))
    return [found.start() for found in WAITS.finditer(code, start, code.index("\n  }\n", start))]


EVERY_WAIT = [
    (file, kernel, i)
    for file, kernel, n in (
        ("attention.cu", "forward", 2),
        ("attention.cu", "backward_queries", 2),
        ("attention_tensor.cu", "forward", 4),
        ("attention_tensor.cu", "backward", 3),
    )
    for i in range(n)
]


@emulated_only
@pytest.mark.parametrize(("file", "kernel", "number"), EVERY_WAIT)
def test_without_one_wait_the_result_is_wrong(file, kernel, number, tmp_path, monkeypatch):
    """So the emulator's orders do find a missing barrier, and none in the kernels is idle."""
    code, place = (launching.HERE / file).read_text(encoding="utf-8"), waits(file, kernel)[number]
    for other in launching.HERE.glob("attention*.cu"):
        shutil.copy(other, tmp_path)
    (tmp_path / file).write_text(code[:place] + WAITS.sub("", code[place:], count=1), encoding="utf-8")
    dtype, ways, key = (
        (bfloat16, attention.TENSOR, 32) if "tensor" in file else (np.dtype("f4"), attention.PLAIN, (32, "float"))
    )
    tiled = ways[key][kernel]
    kernels = launching.Kernels(file, tiled.name, types=tiled.kernels.types)
    launching.Kernels.all.remove(kernels)
    monkeypatch.setitem(ways[key], kernel, tiled._replace(kernels=kernels))
    monkeypatch.setattr(launching, "HERE", tmp_path)
    assert wrong_once_in(8, dtype)


def wrong_once_in(times: int, dtype) -> bool:
    q, k, v, dy = (RNG.standard_normal((1, 200, 1, 32)).astype(dtype) for _ in range(4))
    wide = [a.astype("f8") for a in (q, k, v)]
    y, lse = attention_forward(*wide)
    expected = attention_backward(dy.astype("f8"), *wide, y, lse)[0]
    y_given, lse_given = y.astype(dtype), lse.astype("f4")
    for _ in range(times):
        try:
            ours = attention.attention_forward(q, k, v)[0]
            dq = attention.attention_backward(dy, q, k, v, y_given, lse_given)[0]
        except EmulatorError:
            return True
        if not (error(ours, y) < 2e-2 and error(dq, expected) < 2e-2):
            return True
    return False
