"""Every CUDA kernel compiles for every GPU that we mean, without one at hand, and spills nothing out of its registers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nvrtc
import pytest

TABLE = Path(__file__).with_name("cuda_resources.txt")


@pytest.fixture(scope="module")
def compiler():
    try:
        return nvrtc.Nvrtc()
    except ImportError as error:
        pytest.skip(str(error))


def table():
    """file and kernel -> what it uses, by architecture."""
    head, *lines = (line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines())
    return {name: dict(zip(head[1:], map(nvrtc.Uses.of, uses), strict=True)) for name, *uses in lines}


@pytest.mark.parametrize("file", sorted({group.file for group in nvrtc.all_kernels()}))
def test_compiles_without_spills(file, compiler):
    """Every register more means fewer threads at a time: a kernel that comes to need many more than the table says fails.

    Where that must be, write the table anew; nvrtc.py tells how.
    """
    expected = table()
    groups = [group for group in nvrtc.all_kernels() if group.file == file]
    tasks = [(group, architecture) for group in groups for architecture in nvrtc.ARCHITECTURES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda task: list(nvrtc.resources(compiler, *task)), tasks)
    for (_, architecture), result in zip(tasks, results, strict=True):
        for kernel, uses in result:
            assert uses.spilled == 0, f"{kernel} spills {uses.spilled} bytes for {architecture}"
            assert kernel in expected, f"{kernel} is not in the table"
            before = expected[kernel][architecture]
            assert uses.registers <= before.registers * 9 / 8 and uses.shared == before.shared, f"{kernel} {architecture}"


def test_an_error_is_told(compiler):
    with pytest.raises(RuntimeError, match=r'x.cu does not compile[\s\S]*identifier "nothing" is undefined'):
        compiler.compiled("__global__ void f(float* x) { x[0] = nothing; }", "x.cu", [], ["-arch=sm_90"])
