"""The sum of the residual stream and a branch, with the numbers divided among the threads."""

from __future__ import annotations

from ..common import Array
from .arrays import divided, flat, like, parts_of
from .memory import empty


@divided
def add_part(start, stop, x, f, total):
    x, f, total = x[start:stop], f[start:stop], total[start:stop]
    for i in range(total.size):
        total[i] = x[i] + f[i]


def add(x: Array, f: Array) -> Array:
    total = empty(x, x.shape)
    add_part(x.size, parts_of(x.size), flat(x), flat(like(f, x, "f")), flat(total))
    return total
