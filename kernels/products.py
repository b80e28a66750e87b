"""In which precision the products of float32 matrices are computed.

In bfloat16 the two factors of a product are rounded to bfloat16 (the upper half of a float32: its range, with 8 bits of
precision instead of 24), and what they multiply to is summed in float32. Parameters, gradients, activations, reductions and
the optimizer stay float32, so that nothing need be scaled to train ("mixed precision": Micikevicius et al. 2018; Kalamkar et
al. 2019 for bfloat16). Products of float64 are never rounded: gradients are checked in it.

On a CPU activations in bfloat16 would gain next to nothing: what goes through memory of the largest, an MLP's 4 C features,
is 1.6 GB in a step of nanoGPT's baby, 17 ms of 650 if nothing else were done meanwhile, of which half would be saved.

On a GPU a model may compute in bfloat16 throughout (Model.in_bfloat16), as training does: the arrays are then bfloat16
themselves, and this module has no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PRECISIONS = ("float32", "bfloat16")

dtype = "float32"  # the one in force, for the whole process


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Within the block, products of float32 matrices (linear maps, the loss's projection, attention's) are computed in it.

    name: "float32", or "bfloat16", which the cpu set computes where the processor has AVX512-BF16, and the reference set
    everywhere. ValueError for another name, and from the first product where the processor lacks it.

    What is not rounded: attention of fewer than four queries on the cpu set (decoding: it waits for keys and values to be
    read, not for products), and all attention of float32 arrays on the cuda set.
    """
    global dtype
    if name not in PRECISIONS:
        raise ValueError(f"precision({name!r}): products are computed in {' or '.join(map(repr, PRECISIONS))}")
    before, dtype = dtype, name
    try:
        yield
    finally:
        dtype = before
