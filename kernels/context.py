"""What is in force in the current thread: which set computes on NumPy arrays, and the precision of products.

Both are context variables (PEP 567), so a block in one thread does not change what another thread computes.

In bfloat16 the two factors of a product are rounded to bfloat16, which is the upper half of a float32: it has the range of a
float32 and 8 bits of precision instead of 24. The product is summed in float32. Parameters, gradients, reductions and the
optimizer stay in float32, so training needs no loss scaling ("mixed precision": Micikevicius et al. 2018; Kalamkar et al.
2019 for bfloat16). Products of float64 are never rounded, because gradients are checked in float64.

On a CPU, activations stay in float32 too, because keeping them in bfloat16 would gain next to nothing. The largest of them
are the 4 C features of an MLP. In a step of nanoGPT's baby model they account for 1.6 GB of memory traffic. That is 17 ms of
650 ms if nothing overlaps with it, and bfloat16 would halve it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .host import emulated

SETS = ("reference", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16")


class Autocast:
    """One `with autocast(dtype):` block. Two blocks are two objects, even if both compute in the same dtype."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"Autocast({self.dtype!r})"


def default_set() -> str:
    """Return the set that TINYLLM_KERNELS names for NumPy arrays, or "cpu" if it is unset."""
    name = os.environ.get("TINYLLM_KERNELS", "cpu")
    if name not in ("reference", "cpu") and not (name == "cuda" and emulated()):
        raise ValueError(f"TINYLLM_KERNELS is {name!r}; set it to 'cpu' or 'reference', or leave it unset")
    return name


DEFAULT_SET, NO_AUTOCAST = default_set(), Autocast("float32")
_numpy_set: ContextVar[str] = ContextVar("tinyllm_numpy_set", default=DEFAULT_SET)
_autocast: ContextVar[Autocast] = ContextVar("tinyllm_autocast", default=NO_AUTOCAST)
numpy_set = _numpy_set.get  # () -> the name of the set that computes on NumPy arrays in this thread
current_autocast = _autocast.get  # () -> the Autocast in force in this thread; outside of all blocks, one of float32


@contextmanager
def use(name: str) -> Iterator[None]:
    """Compute on NumPy arrays with the set `name` within the block, in this thread.

    name: "cpu" or "reference"; with TINYLLM_DEVICE=emulated also "cuda".
    ValueError for another name, and for "reference" within autocast("bfloat16").
    """
    if name == "cuda" and not emulated():
        raise ValueError("use('cuda'): a NumPy array is computed by the cuda set only with TINYLLM_DEVICE=emulated")
    if name not in SETS:
        raise ValueError(f"use({name!r}): a NumPy array can be computed by 'cpu' or 'reference'")
    if name == "reference":
        refuse_reference("use('reference')")
    token = _numpy_set.set(name)
    try:
        yield
    finally:
        _numpy_set.reset(token)


@contextmanager
def autocast(dtype: str) -> Iterator[None]:
    """Compute in mixed precision within the block, in this thread: put `loss` and `backward` into it.

    dtype: "bfloat16", or "float32", which turns it off. Products of float32 matrices (linear maps, the loss's projection,
    attention's) are computed in it. ValueError for another dtype, and for "bfloat16" with the reference set, which computes
    in the dtype of its arrays. The cpu set needs a processor with AVX512-BF16, or its first product raises ValueError.

    Two products are not rounded: attention of fewer than four queries on the cpu set, because decoding waits for memory and
    not for products; and all attention of float32 arrays on the cuda set.
    """
    if dtype not in PRECISIONS:
        expected = " or ".join(map(repr, PRECISIONS))
        raise ValueError(f"autocast({dtype!r}): the dtype must be {expected}; pass one of these names")
    if dtype == "bfloat16" and numpy_set() == "reference":
        raise ValueError(f"autocast('bfloat16'): {REFERENCE_REFUSES}")
    with resume_autocast(Autocast(dtype)):
        yield


@contextmanager
def resume_autocast(state: Autocast) -> Iterator[None]:
    """Compute within the block in the precision of `state`, which current_autocast() returned earlier.

    A backward computes so in the precision of its forward, wherever it is called.
    """
    token = _autocast.set(state)
    try:
        yield
    finally:
        _autocast.reset(token)


def autocast_dtype() -> str:
    """The precision in force in this thread: "float32" or "bfloat16"."""
    return current_autocast().dtype


REFERENCE_REFUSES = (
    "the reference set is in force, and it computes in the dtype of its arrays. Use autocast with the cpu or the cuda set: "
    "leave use('reference'), and unset TINYLLM_KERNELS"
)


def refuse_reference(what: str) -> None:
    """Raise ValueError within autocast("bfloat16"): `what` asks for the reference set there."""
    if current_autocast().dtype != "float32":
        raise ValueError(
            f"{what} within autocast({autocast_dtype()!r}): the reference set computes in the dtype of its arrays. Use the "
            "reference set outside of autocast, or autocast('float32')"
        )
