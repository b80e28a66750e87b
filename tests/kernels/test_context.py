"""use and autocast: local to the thread, restored when their block ends, and never autocast with the reference set."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels

X = np.full((4, 4), 1 + 2**-9, np.float32)  # bfloat16 rounds it to 1


def in_another_thread(ask: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


def state() -> tuple[str, str]:
    return kernels.autocast_dtype(), kernels.set_of(X)


def test_a_block_ends_with_an_exception_and_blocks_nest():
    assert tinyllm.autocast is kernels.autocast
    assert kernels.autocast_dtype() == "float32"
    with pytest.raises(KeyError), kernels.autocast("bfloat16"):
        outer = kernels.current_autocast()
        with kernels.autocast("float32"):
            assert kernels.autocast_dtype() == "float32"
        with kernels.autocast("bfloat16"):
            assert kernels.autocast_dtype() == "bfloat16"
            assert kernels.current_autocast() is not outer  # so that each block has its own rounded weights
        assert kernels.current_autocast() is outer and outer.dtype == "bfloat16"
        raise KeyError
    assert kernels.autocast_dtype() == "float32"


def test_a_backward_can_return_to_the_block_of_its_forward():
    with kernels.autocast("bfloat16"):
        remembered = kernels.current_autocast()
    with kernels.autocast("float32"):
        with pytest.raises(KeyError), kernels.resume_autocast(remembered):
            assert kernels.current_autocast() is remembered and kernels.autocast_dtype() == "bfloat16"
            raise KeyError
        assert kernels.autocast_dtype() == "float32"


def test_another_thread_sees_neither_autocast_nor_use():
    with kernels.autocast("bfloat16"):
        assert state() == ("bfloat16", "cpu")
        assert in_another_thread(state) == ("float32", "cpu")
    with kernels.use("reference"):
        assert state() == ("float32", "reference")
        assert in_another_thread(state) == ("float32", "cpu")


def test_two_threads_compute_in_two_precisions_at_the_same_time():
    inside, done = threading.Event(), threading.Event()
    seen: list[Any] = []

    def other() -> None:
        with kernels.use("reference"):
            inside.set()
            done.wait(60)
            seen.append((state(), kernels.linear_forward(X, X)[0, 0]))

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with kernels.autocast("bfloat16"):
        assert state() == ("bfloat16", "cpu")
        done.set()
        thread.join()
    assert seen == [(("float32", "reference"), (X @ X.T)[0, 0])]


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"autocast\('float16'\): the dtype must be 'float32' or 'bfloat16'; pass one"):
        with kernels.autocast("float16"):
            pass


def test_the_reference_set_refuses_autocast_either_way_round():
    with kernels.use("reference"):
        with pytest.raises(ValueError, match=r"autocast\('bfloat16'\): the reference set .* leave use\('reference'\)"):
            with kernels.autocast("bfloat16"):
                pass
        with kernels.autocast("float32"):
            kernels.linear_forward(X, X)
    with kernels.autocast("bfloat16"):
        remembered = kernels.current_autocast()
        with pytest.raises(ValueError, match=r"use\('reference'\) within autocast\('bfloat16'\): .* outside of autocast"):
            with kernels.use("reference"):
                pass
        with kernels.autocast("float32"), kernels.use("reference"):
            kernels.linear_forward(X, X)
    with kernels.use("reference"), kernels.resume_autocast(remembered):  # a backward away from its forward
        with pytest.raises(ValueError, match=r"linear_forward within autocast\('bfloat16'\): the reference set computes in"):
            kernels.linear_forward(X, X)
    assert state() == ("float32", "cpu")


def test_with_the_reference_set_for_the_process_autocast_says_so():
    code = "from tinyllm import kernels\nwith kernels.autocast('bfloat16'): pass"
    environment = {**os.environ, "TINYLLM_KERNELS": "reference"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "the reference set is in force" in done.stderr and "unset TINYLLM_KERNELS" in done.stderr
