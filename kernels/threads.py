"""How many threads the cpu set computes with: chosen once, before Numba makes its pool of them.

The choice, first to last: `set_threads` (the commands' --threads), TINYLLM_THREADS, NUMBA_NUM_THREADS, and the number of
physical cores that this process may use. Two threads on one core only share its multipliers, which the matrix products keep
busy already.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def set_threads(n: int) -> None:
    """Computes with n threads from now on: the kernels of the cpu set, and NumPy's BLAS where it is used (float64).

    ValueError where n is no positive number, or more than the pool has that runs already.
    """
    from threadpoolctl import threadpool_limits

    if n < 1:
        raise ValueError(f"threads must be 1 or more, and are {n}")
    if "numba" not in sys.modules:
        os.environ["NUMBA_NUM_THREADS"] = str(n)
    else:
        import numba

        pool: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
        if n > pool:
            raise ValueError(
                f"{n} threads are more than the {pool} of the pool that runs already: "
                f"call set_threads before anything is computed, or set TINYLLM_THREADS={n}"
            )
        numba.set_num_threads(n)
    threadpool_limits(n, user_api="blas")


def choose() -> None:
    """Tells Numba the number, where nobody has: called before the cpu set imports it."""
    if "numba" not in sys.modules and "NUMBA_NUM_THREADS" not in os.environ:
        os.environ["NUMBA_NUM_THREADS"] = str(default_threads())


def default_threads() -> int:
    """TINYLLM_THREADS, or the number of physical cores."""
    asked = os.environ.get("TINYLLM_THREADS")
    if asked is None:
        return physical_cores()
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"TINYLLM_THREADS is {asked!r}: set it to a number of threads, 1 or more, or leave it unset")
    return int(asked)


def physical_cores() -> int:
    """The cores that this process may run on; where the system does not tell which are one, the logical processors."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return len({_siblings(cpu) for cpu in allowed})


def _siblings(cpu: int) -> str:
    """What is the same for the logical processors of one core."""
    try:
        return (TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)
