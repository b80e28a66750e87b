"""Sums over rows for each column, in parts, and then of the parts (columns.cuh): the same in every run."""

from __future__ import annotations

from .arrays import WARP

SHARING = 8  # as in columns.cuh
PARTS = 256  # of the rows, about two for each multiprocessor of a large GPU. The same on any: so are the sums


def parts_of(n):
    """Into how many parts n rows are divided."""
    return min(n, PARTS)


def add_parts(kernels, like, parts, sums, first=0):
    """sums (C,) += the parts' own sums, parts (n, columns): those of the columns `first` and on. `like` has been summed."""
    columns = sums.size
    part = parts.reshape(-1)[first:], sums, *parts.shape, columns
    kernels.launch("add_parts<T>", like, -(-columns // WARP), (WARP, SHARING), *part)
