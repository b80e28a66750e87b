"""The thread pool of the cpu set: how many threads compute, from several Python threads at once, and after a fork.

Numba compiles a prange loop to a call of a function, `numba_parallel_for`, which gives the parts of the loop to the threads
of a pool. There are two cases in which that ends the process. A forked child has the pool of its parent, but none of the
pool's threads, and GNU OpenMP kills it. And Numba's own pool, the layer "workqueue" of machines without OpenMP, serves one
Python thread at a time. So kernels call the function below instead. In a forked child, and while such a pool is busy, it
computes the parts one after another on the calling thread. The parts are the same, and so are the results, bit for bit.
"""

from __future__ import annotations

import os
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

WORD = ir.IntType(64)
FORKED, ONE_AT_A_TIME, BUSY = range(3)
state = np.zeros(3, np.int64)  # which the function below reads, by these places
_threads = numba.get_num_threads()  # this starts the pool


def threads() -> int:
    """Return the number of threads that kernels divide their work among, in all Python threads."""
    return _threads


def set_threads(n: int) -> None:
    """Divide work among n threads from now on. ValueError if the pool has fewer, or in a forked child for more than one."""
    global _threads
    pool: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if state[FORKED] and n > 1:
        raise ValueError(
            f"{n} threads were asked for, and this process was forked from one whose thread pool it cannot use: it computes "
            'on one thread. Start it with multiprocessing.get_context("spawn") to compute on several'
        )
    if n > pool:
        raise ValueError(
            f"{n} threads were asked for, and the pool that runs already has {pool}: "
            f"call set_threads before anything is computed, or set TINYLLM_THREADS={n}"
        )
    numba.set_num_threads(n)
    _threads = n


def _in_child() -> None:
    global _threads
    global_compiler_lock.release()
    state[:] = 1, 0, 0
    _threads = 1


def _build(builder: ir.IRBuilder, args: Any, pool: int) -> None:
    """args: the function of a part, its arrays, sizes, steps and data, the number of its axes and of arrays, and threads."""

    def word(address: Any, index: Any = 0) -> Any:
        place = builder.add(address, builder.mul(index, ir.Constant(WORD, 8))) if index else address
        return builder.inttoptr(place, WORD.as_pointer())

    def flag(which: int) -> Any:
        return word(ir.Constant(WORD, state.ctypes.data + 8 * which))

    zero, one = ir.Constant(WORD, 0), ir.Constant(WORD, 1)
    alone = builder.alloca(WORD)
    builder.store(builder.load(flag(FORKED)), alone)
    limited = builder.icmp_signed("!=", builder.load(flag(ONE_AT_A_TIME)), zero)
    with builder.if_then(limited):
        taken = builder.extract_value(builder.cmpxchg(flag(BUSY), zero, one, "acquire", "monotonic"), 0)
        builder.store(taken, alone)
    with builder.if_else(builder.icmp_signed("==", builder.load(alone), zero)) as (by_pool, here):
        with by_pool:
            kind = ir.FunctionType(ir.VoidType(), [WORD] * len(args))
            builder.call(builder.inttoptr(ir.Constant(WORD, pool), kind.as_pointer()), args)
            with builder.if_then(limited):
                builder.store_atomic(zero, flag(BUSY), "release", 8)
        with here:
            _build_loop(builder, args, word)


def _build_loop(builder: ir.IRBuilder, args: Any, word: Any) -> None:
    """Each part by itself: the same sizes, of which the first is one part, and the arrays moved on by their steps."""
    function, arrays, sizes, steps, data, axes, count, _ = args
    one = ir.Constant(WORD, 1)
    part_sizes = builder.ptrtoint(builder.alloca(WORD, builder.add(axes, one)), WORD)
    part_arrays = builder.ptrtoint(builder.alloca(WORD, builder.add(count, one)), WORD)
    run = builder.inttoptr(function, ir.FunctionType(ir.VoidType(), [WORD] * 4).as_pointer())
    with cgutils.for_range(builder, builder.load(word(sizes))) as part:
        with cgutils.for_range(builder, builder.add(axes, one)) as axis:
            builder.store(builder.load(word(sizes, axis.index)), word(part_sizes, axis.index))
        builder.store(one, word(part_sizes))
        with cgutils.for_range(builder, count) as array:
            moved = builder.mul(builder.load(word(steps, array.index)), part.index)
            builder.store(builder.add(builder.load(word(arrays, array.index)), moved), word(part_arrays, array.index))
        builder.call(run, [part_arrays, part_sizes, steps, data])


def _install() -> Any:
    """Make kernels that are linked from now on call our function -> what keeps its machine code."""
    pool, name = llvmlite.binding.address_of_symbol("numba_parallel_for"), "tinyllm_parallel_for"
    state[ONE_AT_A_TIME] = numba.threading_layer() == "workqueue"
    library = cpu_target.target_context.codegen().create_library(name)
    module = library.create_ir_module(name)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORD] * 8), name)
    builder = ir.IRBuilder(function.append_basic_block())
    _build(builder, function.args, pool)
    builder.ret_void()
    library.add_ir_module(module)
    library.finalize()
    llvmlite.binding.add_symbol("numba_parallel_for", library.get_pointer_to_function(name))
    return library


with global_compiler_lock:
    _library = _install()
if hasattr(os, "register_at_fork"):  # no thread compiles during a fork: its lock would stay taken in the child
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_in_child,
    )
