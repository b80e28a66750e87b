"""The number of threads that the cpu set computes with. It is chosen once, before Numba makes its thread pool.

The first of these that is given decides: `set_threads` (--threads of the commands), NUMBA_NUM_THREADS, TINYLLM_THREADS, and
the number of physical cores that this process may use. Two threads on one core would share its multipliers, which one thread
of matrix products keeps busy already.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def set_threads(n: int) -> None:
    """Compute with n threads from now on: the kernels of the cpu set, and NumPy's BLAS, which computes float64 products.

    This holds for all threads of Python. ValueError if n is less than 1, more than the threads of a pool that runs already,
    or more than 1 in a process that was forked after the kernels were loaded: such a process computes on one thread.
    """
    from threadpoolctl import threadpool_limits

    if n < 1:
        raise ValueError(f"the number of threads is {n}; pass 1 or more")
    if "numba" not in sys.modules:
        os.environ["NUMBA_NUM_THREADS"] = str(n)
    else:
        from .cpu import parallel

        parallel.set_threads(n)
    threadpool_limits(n, user_api="blas")


def choose() -> None:
    """Set NUMBA_NUM_THREADS if it is unset. The cpu set calls this before it imports Numba."""
    if "numba" not in sys.modules and "NUMBA_NUM_THREADS" not in os.environ:
        os.environ["NUMBA_NUM_THREADS"] = str(default_threads())


def default_threads() -> int:
    """Return TINYLLM_THREADS, or the number of physical cores if it is unset."""
    asked = os.environ.get("TINYLLM_THREADS")
    if asked is None:
        return physical_cores()
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"TINYLLM_THREADS is {asked!r}: set it to a number of threads, 1 or more, or leave it unset")
    return int(asked)


def physical_cores() -> int:
    """Return the number of cores that this process may run on.

    If the system does not report which logical processors share a core, each of them counts.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return len({_siblings(cpu) for cpu in allowed})


def _siblings(cpu: int) -> str:
    """Return a text that is the same for all logical processors of one core."""
    try:
        return (TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)
