"""Several threads and forked children compute what one thread computes, from the first call on, and nothing waits for ever.

Each test runs in a process of its own, with a time limit: what it tests for ends or stops processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 300  # seconds, many times what each takes
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

MODELS = """
import multiprocessing, os, sys, threading
import numpy as np, tinyllm
from tinyllm import kernels
gpt = tinyllm.GPT(tinyllm.GPTConfig(vocab_size=300, n_positions=64, n_layer=1, n_head=2, n_embd=64))
bert = tinyllm.BERT(tinyllm.BERTConfig(vocab_size=300, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
                                       intermediate_size=128, max_position_embeddings=64))
x = np.random.default_rng(0).integers(0, 300, (2, 40))
targets = np.random.default_rng(1).integers(0, 300, (2, 40))
def forward(): return gpt(x)
def encode(): return bert(x)
def generate(): return tinyllm.generate(gpt, x[:1, :8], 10)  # recorded from the third step on
def sample(): return tinyllm.generate(gpt, x[:, :5], 10, temperature=1.0, seed=3)
def train():
    gpt.zero_grad()
    loss = gpt.loss(x, targets)
    gpt.backward()
    return np.concatenate([[loss], *(p.grad.reshape(-1) for p in gpt.parameters())])
def same(a, b): return a.dtype == b.dtype and a.tobytes() == b.tobytes()
"""


def run(code: str, cache: Path | None = None, **environment: str) -> str:
    """What the process prints. It must end by itself and without an error."""
    of_this_process = ("TINYLLM_KERNELS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")  # the last is set by kernels/threads.py
    inherited = {name: value for name, value in os.environ.items() if name not in of_this_process}
    environment = {**inherited, "TINYLLM_THREADS": "2", **environment}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", MODELS + code], capture_output=True, text=True, env=environment, timeout=LIMIT
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout.strip()


EIGHT = """
jobs, found = [forward, encode, generate, sample] * 2, {}
start = threading.Barrier(8)
def work(i):
    start.wait()
    try:
        found[i] = [jobs[i]() for _ in range(2)]
    except BaseException as error:
        found[i] = [np.frombuffer(repr(error).encode(), np.uint8)]
        print(repr(error), file=sys.stderr)
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(not same(one, jobs[i]()) for i in range(8) for one in found[i]), len(gpt.mode.kept), sum(map(len, found.values())))
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_eight_threads_with_one_model(layer):
    """Numba's layer "workqueue" serves one thread at a time. It is what machines without OpenMP have."""
    assert run(EIGHT, NUMBA_THREADING_LAYER=layer) == "0 0 16"


COLD = """
x = np.random.default_rng(0).standard_normal((40, 30), np.float32)
w = np.random.default_rng(1).standard_normal((20, 30), np.float32)
found, start = [], threading.Barrier(4)
def work():
    start.wait()
    found.append(kernels.linear_forward(x, w))
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), all(same(one, kernels.linear_forward(x, w)) for one in found))
"""


def test_the_first_use_from_several_threads(tmp_path):
    """Nothing is compiled yet, and nothing is in the cache."""
    assert run(COLD, tmp_path) == "4 True"


TRAINING = """
expected, seen, stop, errors = train(), forward(), threading.Event(), []
def use():
    try:
        while not stop.is_set():
            if not same(forward(), seen) or gpt.mode.training: errors.append("wrong")
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=use) for _ in range(2)]
for thread in threads: thread.start()
same_gradients = all(same(train(), expected) for _ in range(5))
stop.set()
for thread in threads: thread.join()
print(same_gradients, errors)
"""


def test_one_thread_trains_a_model_that_others_use():
    assert run(TRAINING) == "True []"


@fork
@pytest.mark.parametrize("before", ["nothing", "computed", "in a thread"])
def test_a_forked_child_computes_on_one_thread(before):
    """Bit for bit what the parent gives on one thread, also in a child's child, and by a step that the parent recorded."""
    code = """
wide = np.ones((300, 300))  # enough for several threads of BLAS
def results(): return [forward(), encode(), generate(), sample(), train(), wide @ wide]
def child(pipe, deeper):
    found = results()
    if deeper:
        pid = os.fork()
        if not pid: os._exit(0 if all(map(same, results(), found)) else 7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    try:
        tinyllm.set_threads(2)
    except ValueError as error:
        assert "forked" in str(error) and "spawn" in str(error)
    else:
        raise AssertionError("a forked child has no second thread")
    tinyllm.set_threads(1)
    pipe.send(found)
def forked():
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs, True))
    process.start()
    theirs.close()
    found = mine.recv()
    process.join()
    assert process.exitcode == 0
    return found
import tinyllm.kernels.cpu.matmul  # the parent has a pool
if BEFORE == "computed": results()
if BEFORE == "in a thread":
    results()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(forked()))
    thread.start()
    thread.join()
    found = answers[0]
else:
    found = forked()
tinyllm.set_threads(1)
print([i for i, (a, b) in enumerate(zip(found, results(), strict=True)) if not same(a, b)])
"""
    assert run(code.replace("BEFORE", repr(before))) == "[]"


@fork
def test_pools_of_forked_processes():
    code = """
from concurrent.futures import ProcessPoolExecutor
def work(i): return [forward, generate][i % 2]()
context = multiprocessing.get_context("fork")
expected = [work(0), work(1)]
with context.Pool(2) as pool: found = pool.map(work, range(4))
with ProcessPoolExecutor(2, mp_context=context) as pool: found += pool.map(work, range(4))
print(len(found), all(same(one, expected[i % 2]) for i, one in enumerate(found)))
"""
    assert run(code) == "8 True"


@fork
def test_a_fork_while_another_thread_compiles_and_records(tmp_path):
    """A lock that is taken during the fork would stay taken in the child for ever."""
    code = """
from tinyllm.kernels.cpu.graph import Notes
from tinyllm.kernels.cpu.jit import Kernel
x = np.random.default_rng(0).standard_normal((40, 30), np.float32)
recording, stop = threading.Event(), threading.Event()
def record():
    def step():
        recording.set()
        stop.wait(60)
        return kernels.add(x, x)
    try: Notes(step)
    except KeyError: pass
compiling = threading.Thread(target=lambda: kernels.softmax_forward(x))
kernels.add(x, x)
threads = [compiling, threading.Thread(target=record)]
for thread in threads: thread.start()
recording.wait()
pid = os.fork()
if not pid:
    assert Kernel.notes is None and Notes.taking.acquire(timeout=1)
    y = kernels.rmsnorm_forward(x, np.ones(30, np.float32))[0]
    os._exit(0 if y.shape == x.shape else 3)
stop.set()
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
for thread in threads: thread.join()
print(code)
"""
    assert run(code, tmp_path) == "0"


@fork
def test_parts_are_computed_one_after_another_in_a_child():
    """A loop over the pool gives the same numbers in the same places, whatever the number of threads of the parent."""
    code = """
from tinyllm.kernels.cpu.attention_rows import place
from tinyllm.kernels.cpu.heads import copy_heads
part = np.random.default_rng(0).standard_normal((3, 50, 4, 8))
def join():
    joined = np.zeros((3, 50, 9, 8))
    copy_heads(place(part), 2, 4, 7, joined)
    return joined
expected = join()
pid = os.fork()
if not pid: os._exit(0 if same(join(), expected) and expected.any() else 5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(code, TINYLLM_THREADS="3") == "0"


def test_set_threads_holds_for_all_threads():
    code = """
from tinyllm.kernels.cpu import parallel
seen = []
def ask():
    thread = threading.Thread(target=lambda: seen.append(parallel.threads()))
    thread.start()
    thread.join()
ask()
tinyllm.set_threads(1)
ask()
print(seen)
"""
    assert run(code) == "[2, 1]"
