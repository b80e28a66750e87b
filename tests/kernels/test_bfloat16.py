"""Products in bfloat16: rounded as float_bits.py rounds, for every size and layout; what stays float32; who refuses."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from calls import accumulators, backward, comparable, cotangents, error, forward, function
from hypothesis import example, given
from hypothesis import strategies as st
from rounded import rounded
from strategies import calls
from test_matmul import FENCED, PRODUCTS, Guarded, close, laid_out, layouts, normal, run, seeds, sizes, steps

from tinyllm import kernels
from tinyllm.kernels.cpu.matmul import BLOCK_STEPS, PACKED_STEPS, matmul
from tinyllm.kernels.cpu.simd import BFLOAT16
from tinyllm.kernels.reference.activation import activation_forward

needs_bfloat16 = pytest.mark.skipif(not BFLOAT16, reason="this processor has no AVX512-BF16 (or TINYLLM_SIMD is set)")
long_steps = steps | st.sampled_from((2 * BLOCK_STEPS - 1, 2 * BLOCK_STEPS + 1, 2 * PACKED_STEPS + 5))
LINEAR = ("linear", "linear_activation", "linear_cross_entropy")


@pytest.fixture
def bfloat16():
    with kernels.autocast("bfloat16"):
        yield


def numbers() -> np.ndarray:
    """float32s of every kind: all upper halves, with lower halves that lie at, beside and between the middles."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    return (upper[:, None] | np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)).view(np.float32).ravel()


# The rounding ----------------------------------------------------------------------------------------------------------


def test_we_round_as_pytorch_does():
    torch = pytest.importorskip("torch", reason="the peer whose rounding this is compared to")
    x = numbers()
    theirs = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    assert np.array_equal(rounded(x), theirs, equal_nan=True)


def test_rounding_by_hand():
    x = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(1 + 2**-8), 3.4e38], np.float32)
    assert rounded(x).tolist() == [1, 1, 1 + 2**-6, 1 + 2**-7, -1, np.inf]


@needs_bfloat16
@pytest.mark.parametrize("layout", ["C", "transposed"])
@pytest.mark.parametrize("side", ["a", "b", "a of few rows", "b of few rows"])
def test_each_factor_is_rounded_as_the_reference_rounds(side, layout, bfloat16):
    """The product with the unit matrix; numbers below float32's normal ones come out as zero."""
    x = numbers()
    x = x[np.isfinite(x) & ~((np.abs(x) < 2.0**-126) & (x != 0))]
    x = np.resize(x, (-(-x.size // 62), 62))
    expected = rounded(x)
    x, finite = laid_out(x, layout), np.isfinite(expected).all(1)  # what is rounded up to infinity has NaN beside it
    unit = np.eye(62, dtype=np.float32)
    if side == "a":
        out = matmul(x, unit, np.empty(x.shape, np.float32))
    elif side == "b":
        out = matmul(unit, x.T, np.empty(x.T.shape, np.float32)).T
    elif side == "a of few rows":
        out = np.concatenate([matmul(x[i : i + 9], unit.T, np.empty_like(x[i : i + 9])) for i in range(0, len(x), 9)])
    else:
        out = matmul(unit[:5], x.T, np.empty((5, len(x)), np.float32)).T
        expected = expected[:, :5]
    assert np.array_equal(out[finite], expected[finite])


# Products --------------------------------------------------------------------------------------------------------------


@needs_bfloat16
@given(sizes, sizes, long_steps, layouts, layouts, st.sampled_from(("C", "C", "transposed", "sliced")), seeds)
@example(50, 70, 2 * PACKED_STEPS + 5, "C", "C", "C", 0)
@example(50, 70, 2 * PACKED_STEPS + 5, "transposed", "transposed", "C", 0)
@example(100, 97, 33, "C", "transposed", "C", 0)
def test_every_size_and_layout(m, n, k, a_layout, b_layout, out_layout, seed):
    """As close to the product of the rounded factors as float32 sums are: no more is rounded."""
    rng = np.random.default_rng(seed)
    a, b = normal(rng, m, k), normal(rng, k, n)
    out = Guarded(m, n, out_layout)
    with kernels.autocast("bfloat16"):
        assert matmul(laid_out(a, a_layout), laid_out(b, b_layout), out.array) is out.array
    a, b = rounded(a).astype(float), rounded(b).astype(float)
    assert close(out.array, a @ b, np.abs(a) @ np.abs(b))
    assert out.intact()


@needs_bfloat16
@given(sizes, sizes, long_steps, st.sampled_from(("bias", "itself", None)), st.sampled_from((None, "gelu", "silu")), seeds)
@example(50, 70, 2 * PACKED_STEPS + 3, "itself", None, 0)
@example(3, 70, 65, "bias", "gelu", 0)
def test_what_is_added_is_not_rounded(m, n, k, plus, activation, seed):
    rng = np.random.default_rng(seed)
    a, b, bias = normal(rng, m, k), normal(rng, k, n), normal(rng, n)
    out, y = Guarded(m, n), Guarded(m, n)
    out.array[...] = normal(rng, m, n)
    start = {"bias": bias, "itself": out.array.copy(), None: np.zeros(n, np.float32)}[plus].astype(float)
    added = out.array if plus == "itself" else bias if plus == "bias" else None
    activated = None if activation is None else y.array
    with kernels.autocast("bfloat16"):
        matmul(a, b, out.array, plus=added, activation=activation, activated=activated)
    a, b = rounded(a).astype(float), rounded(b).astype(float)
    assert close(out.array, start + a @ b, np.abs(start) + np.abs(a) @ np.abs(b))
    if activation is not None:
        z = out.array.astype(float)
        assert close(y.array, activation_forward(z, activation), np.maximum(np.abs(z), 1e-3))
    assert out.intact() and (activation is None or y.intact())


@needs_bfloat16
@pytest.mark.parametrize("shape", [(70, 100, 41), (3, 700, 65), (1, 90, 501), (500, 7, 33), (40, 40, 1)])
def test_infinity_and_nan_stay_in_their_row_and_column(shape, bfloat16):
    """The zero that makes an odd number even must not meet an infinity."""
    m, n, k = shape
    for step in {0, k // 2, k - 1}:
        a, b = np.ones((m, k), np.float32), np.ones((n, k), np.float32).T
        a[m // 2, step], b[k // 3, n - 1] = np.inf, np.nan
        expected = np.full((m, n), k, np.float32)
        expected[m // 2], expected[:, n - 1] = np.inf, np.nan
        for a_, b_ in ((a, b), (a.T.copy().T, b.copy())):
            assert np.array_equal(matmul(a_, b_, np.empty((m, n), np.float32)), expected, equal_nan=True)


def under_bfloat16(code: str) -> str:
    return f"from tinyllm import kernels\nwith kernels.autocast('bfloat16'):\n{textwrap.indent(code, '    ')}"


@needs_bfloat16
def test_any_number_of_threads():
    exact = "[f(x).astype('f4') for f in [lambda x: np.round(8 * x) / 8] for x in (a, b, bias)]"  # what is not rounded
    code = PRODUCTS.replace("    expected, bound", f"    a, b, bias = {exact}\n    expected, bound")
    assert run(under_bfloat16(code), NUMBA_NUM_THREADS="5") == "avx512 16 12 32"


@needs_bfloat16
def test_nothing_is_read_outside_of_the_arrays():
    assert run(under_bfloat16(FENCED)) == "touched nothing"


# Ops -------------------------------------------------------------------------------------------------------------------


@needs_bfloat16
@pytest.mark.parametrize("op", LINEAR)
@given(st.data())
def test_ops_equal_the_rounded_formulas(op, data):
    """A number beside the middle of two may be rounded either way where it is itself computed: hence the larger bound."""
    d, arguments = data.draw(calls(op, "float32"))
    with kernels.autocast("bfloat16"):
        truth, outputs = forward(op, "rounded", arguments), forward(op, "cpu", arguments)
        expected = comparable(op, arguments, truth)
        for name, y in comparable(op, arguments, outputs).items():
            assert error(y, expected[name]) < 2e-5, name
        dys = cotangents(op, d, outputs)
        sums = accumulators(op, d, arguments)[0]
        copies = {name: a.copy() for name, a in sums.items()}
        expected = backward(op, "rounded", arguments, truth, {**dys, **copies})
        for name, gradient in backward(op, "cpu", arguments, outputs, {**dys, **sums}).items():
            assert error(gradient, expected[name]) < (2e-5 if op == "linear" else 2e-3), name


@pytest.mark.parametrize("kernel_set", ["rounded", pytest.param("cpu", marks=needs_bfloat16)])
def test_the_products_are_the_rounded_ones_and_no_others(kernel_set):
    rng = np.random.default_rng(0)
    x, w, dy = normal(rng, 40, 30), normal(rng, 20, 30), normal(rng, 40, 20)
    dw, db = np.zeros_like(w), np.zeros(20, np.float32)
    linear_forward, linear_backward = function("linear_forward", kernel_set), function("linear_backward", kernel_set)
    exact = linear_forward(x, w)
    with kernels.autocast("bfloat16"):
        y, dx = linear_forward(x, w), linear_backward(dy, x, w, dw, db)
    assert np.array_equal(linear_forward(x, w), exact)
    assert 1e-4 < error(y, exact) < 1e-2
    for ours, a, b in ((y, x, w.T), (dx, dy, w), (dw, dy.T, x)):
        assert error(ours, rounded(a).astype(float) @ rounded(b)) < 1e-5
    assert error(db, dy.astype(float).sum(0)) < 1e-6


@pytest.mark.parametrize("kernel_set", ["rounded", "cpu"])
def test_float64_stays_as_it_is(kernel_set, bfloat16):
    x, w = np.random.default_rng(0).standard_normal((2, 30, 30))
    assert error(function("linear_forward", kernel_set)(x, w), x @ w.T) < 1e-14


def test_a_processor_without_it_refuses():
    code = """
import numpy as np
from tinyllm import kernels
x = np.full((40, 40), 1 + 2**-9, "f4")
with kernels.autocast("bfloat16"):
    try:
        kernels.linear_forward(x, x)
    except ValueError as error:
        print(error)
    try:
        kernels.attention_forward(*[x.reshape(1, 40, 4, 10)] * 3)
    except ValueError as error:
        print(error)
"""
    refusal, of_attention = run(code, TINYLLM_SIMD="avx2").splitlines()
    assert refusal.startswith("this processor cannot multiply in bfloat16: it lacks AVX512-BF16")
    assert of_attention == refusal
