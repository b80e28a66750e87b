"""The ladder of CUDA matrix products: every step, every layout, every size; and its barriers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from calls import error
from hypothesis import given
from hypothesis import strategies as st
from on_cuda import require_bfloat16, require_cuda
from strategies import in_layout

from tinyllm.kernels.cuda import device, matmul
from tinyllm.kernels.cuda import module as launching
from tinyllm.kernels.cuda.emulator import EmulatorError

require_cuda()
bfloat16 = require_bfloat16()

RNG = np.random.default_rng(5)
TOLERANCE = {np.dtype("f4"): 1e-5, np.dtype("f8"): 1e-12, bfloat16: 1e-2}
LAYOUTS = "C", "transposed", "sliced", "wide", "offset"


def numbers(shape, dtype):
    return RNG.standard_normal(shape).astype(dtype)


def product(a, b, c, **options):
    """On the device, whichever it is; the result on this side."""
    if device.emulated():
        return matmul.matmul(a, b, c, **options)
    return matmul.matmul(*map(device.cupy().asarray, (a, b, c)), **options).get()


@pytest.mark.parametrize("step", matmul.STEPS)
@given(st.data())
def test_every_step_gives_the_product(step, data):
    dtype = bfloat16 if step == "tensor" else data.draw(st.sampled_from(sorted(TOLERANCE, key=str)))
    M, N, K = (data.draw(st.sampled_from((1, 7, 8, 33, 64, 136))) for _ in range(3))
    K = data.draw(st.sampled_from((0, K, K)))
    a, b = (in_layout(numbers(shape, dtype), data.draw(st.sampled_from(LAYOUTS))) for shape in ((M, K), (K, N)))
    c, add = in_layout(numbers((M, N), dtype), data.draw(st.sampled_from(("C", "wide")))), data.draw(st.booleans())
    expected = a.astype("f8") @ b.astype("f8") + (c.astype("f8") if add else 0)
    assert error(product(a, b, c, add=add, step=step), expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("step", matmul.STEPS)
def test_layouts_of_back_propagation(step):
    """y = x w^T, dx = dy w, dw += dy^T x: by views, whose numbers no one moves."""
    x, w, dy = (numbers(shape, bfloat16) for shape in ((200, 64), (160, 64), (200, 160)))
    dw = numbers(w.shape, bfloat16)
    wide = [array.astype("f8") for array in (x, w, dy, dw)]
    assert error(product(x, w.T, np.empty_like(dy), step=step), wide[0] @ wide[1].T) < 1e-2
    assert error(product(dy, w, np.empty_like(x), step=step), wide[2] @ wide[1]) < 1e-2
    assert error(product(dy.T, x, dw, add=True, step=step), wide[2].T @ wide[0] + wide[3]) < 1e-2


def test_what_does_not_fit_is_refused():
    a, b, c = np.zeros((2, 3), "f4"), np.zeros((3, 4), "f4"), np.zeros((2, 4), "f4")
    for arrays, options, message in (
        ((a, b, c), {"step": "best"}, "'best'; the ladder has naive"),
        ((a, b.T, c), {}, r"\(4, 3\) does not give c"),
        ((a, b, c.astype("f8")), {}, "does not give c float64"),
        ((a, b, np.zeros((4, 2), "f4").T), {}, "c has strides"),
    ):
        with pytest.raises(ValueError, match=message):
            matmul.matmul(*arrays, **options)
    with pytest.raises(TypeError, match="bfloat16, and got float32"):
        matmul.matmul(a, b, c, step="tensor")


@pytest.mark.skipif(not device.emulated(), reason="changes a kernel's source, and runs it in the emulator")
@pytest.mark.parametrize(
    ("step", "number"), [("shared", 0), ("shared", 1), ("registers", 0), ("registers", 1), ("tensor", 0), ("tensor", 1)]
)
def test_without_one_wait_the_result_is_wrong(step, number, tmp_path, monkeypatch):
    """What a missing barrier does, and that the emulator shows it."""
    code, wait = (
        (launching.HERE / "matmul.cu").read_text(encoding="utf-8"),
        re.compile(r"__syncthreads\(\);|copy_async_wait<STAGES.*;"),
    )
    place = [found.start() for found in wait.finditer(code, code.index(f"matmul_{step}("))][number]
    (tmp_path / "matmul.cu").write_text(code[:place] + wait.sub("", code[place:], count=1), encoding="utf-8")
    name, type_name = ("matmul_tensor<1, 0>", "bfloat16") if step == "tensor" else (f"matmul_{step}<T>", "float")
    kernels = launching.Kernels("matmul.cu", name, types=(type_name,))
    launching.Kernels.all.remove(kernels)
    monkeypatch.setattr(matmul, "TENSOR" if step == "tensor" else "KERNELS", kernels)
    monkeypatch.setattr(launching, "HERE", tmp_path)
    dtype = bfloat16 if step == "tensor" else np.dtype("f4")
    a, b = numbers((128, 200), dtype), numbers((128, 200), dtype)

    def is_wrong():
        try:
            c = matmul.matmul(a, b.T, np.zeros((128, 128), dtype), step=step)
        except EmulatorError:
            return True
        return not error(c, a.astype("f8") @ b.T.astype("f8")) < 1e-2

    assert any(is_wrong() for _ in range(8))
