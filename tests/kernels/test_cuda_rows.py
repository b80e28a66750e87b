"""Row kernels read 16 bytes at a time where arrays lie alike in memory: the results are the same wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest
from calls import error, function
from hypothesis import given
from hypothesis import strategies as st
from on_cuda import require_bfloat16

from tinyllm.kernels.cuda import arrays, softmax

RNG = np.random.default_rng(3)


def placed(array, offset):
    """A contiguous copy that begins `offset` numbers behind a multiple of 64 bytes."""
    memory = np.zeros(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 64 + offset * array.itemsize
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


OPS = {
    "softmax_forward": ("x",),
    "softmax_backward": ("x", "x"),
    "add_layernorm_forward": ("x", "x", "w", "w", "eps"),
    "add_layernorm_backward": ("x", "x", "x", "w", "mean", "rstd", "dw", "dw"),
    "add_rmsnorm_forward": ("x", "x", "w"),
    "rmsnorm_forward": ("x", "w"),
    "rmsnorm_backward": ("x", "x", "w", "rstd", "dw"),
    "cross_entropy_forward": ("x", "t"),
    "cross_entropy_backward": ("one", "x", "t", "lse"),
    "position_forward": ("x3", "w2", "t"),
    "embedding_forward": ("t", "w2"),
    "embedding_backward": ("x", "t", "d2"),
    "add": ("x", "x"),
    "dropout_forward": ("x", "half_of", "seed"),
    "gated_forward": ("x", "silu"),
    "gated_backward": ("half", "x", "silu"),
}


def inputs(n, C):
    x = RNG.standard_normal((n, C))
    return {
        "x": x, "w": RNG.standard_normal(C), "mean": x.mean(1), "rstd": 1 / (x.std(1) + 0.1), "dw": RNG.standard_normal(C),
        "t": RNG.integers(0, C, n), "one": 1.0, "lse": np.log(np.exp(x).sum(1)), "silu": "silu",
        "w2": RNG.standard_normal((C, C)), "half": RNG.standard_normal((n, C // 2)), "x3": x[None],
        "d2": RNG.standard_normal((C, C)), "half_of": 0.5, "seed": 3, "eps": 1e-5,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("op", OPS)
@given(data=st.data())
def test_wherever_arrays_begin(op, dtype, data):
    if dtype == "bfloat16":
        dtype = require_bfloat16()
    n, C = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 70)) * (2 if "gated" in op else 1)
    wide = {"mean", "rstd", "dw", "lse", "d2"}  # with bfloat16 these are float32
    together = data.draw(st.booleans())  # all arrays lie alike, or each as it happens
    first = data.draw(st.integers(0, 8))
    ours, truth, made = [], [], inputs(n, C)
    for name in OPS[op]:
        value = made[name]
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            narrow = np.dtype("float32" if name in wide and np.dtype(dtype).itemsize == 2 else dtype)
            value = placed(value.astype(narrow), first if together else data.draw(st.integers(0, 8)))
            truth.append(value.astype("f8"))
        else:
            truth.append(value)
        ours.append(value)
    found = flat([function(op, "cuda")(*ours), *(a for a, name in zip(ours, OPS[op]) if name in ("dw", "d2"))])
    expected = flat([function(op, "reference")(*truth), *(a for a, name in zip(truth, OPS[op]) if name in ("dw", "d2"))])
    close = {2: 3e-2, 4: 2e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    assert all(error(a, b) < close for a, b in zip(found, expected, strict=True))


def flat(results):
    """The arrays and numbers in nested tuples."""
    for one in results:
        if isinstance(one, tuple):
            yield from flat(one)
        elif one is not None:
            yield np.asarray(one)


@pytest.mark.parametrize("C", [arrays.LONG_ROW + 3, softmax.LONG + 4])
def test_rows_of_a_block(C):
    x, t = RNG.standard_normal((2, C)).astype("f4"), np.array([5, C - 1])
    assert error(function("softmax_forward", "cuda")(x), function("softmax_forward", "reference")(x.astype("f8"))) < 1e-5
    (found, lse), (expected, true) = (function("cross_entropy_forward", s)(x, t) for s in ("cuda", "reference"))
    assert found == pytest.approx(expected, rel=1e-5) and error(lse, true) < 1e-5


def test_the_sum_of_exponentials_in_one_go():
    """What of the row is -inf counts nothing; a row of nothing else gives zeros; NaN and infinity are not hidden."""
    x = np.array([[-np.inf, 1e4, -1e4, np.inf][i] if i < 4 else 0.0 for i in range(40)], "f4")
    rows = np.stack(
        [np.full(40, -np.inf, "f4"), np.r_[np.full(39, -np.inf), 3].astype("f4"), x, np.r_[x[:3], np.nan, x[4:]]]
    )
    with np.errstate(all="ignore"):
        y = function("softmax_forward", "cuda")(rows)
    assert not y[0].any() and y[1, 39] == 1 and not y[1, :39].any()
    assert np.isnan(y[2, 3]) and np.isnan(y[3]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
def test_few_queries_wherever_they_and_the_keys_begin(dtype, data):
    T, S, D, first = (data.draw(st.sampled_from(sizes)) for sizes in ((1, 3), (5, 70), (4, 7, 8), (0, 0, 1, 2)))
    apart = data.draw(st.sampled_from([D, D + 1, D + 2, 8]))  # from one head's first number to the next's
    together = placed(RNG.standard_normal((2, S, 3, 2, apart)).astype(dtype), first)[..., :D]
    q, k, v = together[:, -T:, 0], together[:, :, 1], together[:, :, 2]
    for mine, right in zip(
        function("attention_forward", "cuda")(q, k, v, causal=True),
        function("attention_forward", "reference")(*(a.astype("f8") for a in (q, k, v)), causal=True),
        strict=True,
    ):
        assert error(mine, right) < (1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("bits", [16, 8, 4])
@given(data=st.data())
def test_few_rows_wherever_they_and_quantized_weights_begin(bits, data):
    n, C, F, first, of_q = (data.draw(st.sampled_from(sizes)) for sizes in ((1, 3), (64, 40), (1, 5), range(5), range(17)))
    x, b = placed(RNG.standard_normal((n, C)).astype("f4"), first), RNG.standard_normal(F).astype("f4")
    q, scales = function("quantize", "reference")(RNG.standard_normal((F, C)).astype("f4"), bits)
    mine = function("quantized_linear_forward", "cuda")(x, placed(q, of_q), scales, b)
    assert error(mine, function("quantized_linear_forward", "reference")(x.astype("f8"), q, scales, b)) < 1e-5
    widened = function("dequantize", "cuda")(placed(q, of_q), scales, C)
    assert error(widened, function("dequantize", "reference")(q, scales, C)) < 1e-6
