"""The op contract: every array operation of tinyllm by name, in three sets that compute the same.

    reference   plain NumPy, one formula a line, any float dtype: to read, and the truth for the tests of the others
    cpu         Numba-JIT, fused, parallel, vectorised: runs on NumPy arrays
    cuda        CUDA C++ through CuPy: runs on CuPy arrays, and in the emulator on NumPy arrays

The array decides which set computes. Inside `with use("reference"):` (or with TINYLLM_KERNELS=reference in the environment)
NumPy arrays go to the reference set. With TINYLLM_DEVICE=emulated, inside `with use("cuda"):` they go to the cuda set. Its
kernels then run on the CPU, slowly, so that they can be studied and tested without a GPU. There is no silent fall-back: if
the machine cannot run what is asked for, that is an error.

Inside `with autocast("bfloat16"):` products of float32 matrices are computed in bfloat16. Both kinds of block are local to
the thread (context.py).

The legend of all shapes. A letter means the same in every docstring (blogs/notation.md has all symbols):
    B   sequences in a batch                                  C   channels: the numbers that represent one token
    T   positions of a sequence; in attention, of queries     H   heads of queries
    S   positions of the source, or of the keys               G   heads of keys and values; H is a multiple of G
    N   rows: any leading axes together, (..., C)             D   numbers in each head
    F   output features of a linear map; feed-forward size    V   tokens in the vocabulary, or classes of a loss

The laws of an op:
  - `op_forward` is directly above `op_backward`, with the same names in the same order. A backward takes the incoming
    gradient first. `x` is the input, `y` the output, `w` and `b` are weight and bias. `dy`, `dx`, `dw` and `db` are the
    gradients of the loss with respect to them, each in the shape of its array.
  - Parameter gradients accumulate (`dw += ...`). Pass None to skip one. Input gradients are new arrays.
  - Dtype in, dtype out: float32 stays float32. Reductions may accumulate wider. With bfloat16, which the cuda set computes,
    parameter gradients, mean and rstd are float32. lse is float64 with every dtype: the backward's exp(x - lse) is exact
    only if lse keeps its decimal digits where x is far from zero.
  - Kernels know arrays and nothing else.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .context import PRECISIONS as PRECISIONS
from .context import SETS as SETS
from .context import Autocast as Autocast
from .context import autocast as autocast
from .context import autocast_dtype as autocast_dtype
from .context import current_autocast as current_autocast
from .context import numpy_set, refuse_reference
from .context import resume_autocast as resume_autocast
from .context import use as use
from .host import device_of, is_on_host

# file -> its ops
OPS = {
    "linear": (
        "linear_forward",
        "linear_backward",
        "linear_activation_forward",
        "linear_activation_backward",
    ),
    "embedding": ("embedding_forward", "embedding_backward", "position_forward", "position_backward"),
    "rotary": ("rotary_forward", "rotary_backward"),
    "norm": (
        "layernorm_forward",
        "layernorm_backward",
        "add_layernorm_forward",
        "add_layernorm_backward",
        "rmsnorm_forward",
        "rmsnorm_backward",
        "add_rmsnorm_forward",
        "add_rmsnorm_backward",
    ),
    "residual": ("add",),
    "activation": ("activation_forward", "activation_backward", "gated_forward", "gated_backward"),
    "softmax": ("softmax_forward", "softmax_backward"),
    "attention": ("attention_forward", "attention_backward", "attention_step"),
    "heads": ("join_heads",),
    "relative": ("relative_bias_forward", "relative_bias_backward"),
    "dropout": ("dropout_forward", "dropout_backward"),
    "loss": (
        "cross_entropy_forward",
        "cross_entropy_backward",
        "linear_cross_entropy_forward",
        "linear_cross_entropy_backward",
        "squared_error_forward",
        "squared_error_backward",
    ),
    "optimizer": ("adam_step", "adafactor_step", "global_norm", "scale", "clear"),
    "quantized": (
        "quantize",
        "dequantize",
        "dequantize_rows",
        "quantized_linear_forward",
        "quantized_linear_backward",
    ),
    "step": ("append", "relative_bias_last"),
    "memory": ("empty", "zeros"),
}
# The first argument of these is dloss, a number, or tokens, which may be on the host: the second decides.
DECIDED_BY_SECOND = {
    "embedding_forward",
    "dequantize_rows",
    "cross_entropy_backward",
    "linear_cross_entropy_backward",
    "squared_error_backward",
}
FILE_OF = {op: file for file, ops in OPS.items() for op in ops}


@functools.cache
def implementation(op: str, name: str) -> Callable[..., Any]:
    """Return the function that computes `op` in the set `name`. Its file is imported on first use."""
    if name not in SETS:
        raise ValueError(f"{name!r} is not a kernel set; pass one of {', '.join(map(repr, SETS))}")
    return getattr(importlib.import_module(f"{__name__}.{name}.{FILE_OF[op]}"), op)


def can_record(array: Any, rows: int) -> bool:
    """Return whether graph(array) can record a step of decoding with this many rows.

    On a GPU these are the rows that few_rows.py multiplies. More are multiplied by cuBLAS, which CuPy does not record.
    """
    name = set_of(array)
    if name != "cuda":
        return name == "cpu"
    return device_of(array) == "cuda" and rows <= importlib.import_module(f"{__name__}.cuda.few_rows").FEW


def graph(array: Any) -> Any:
    """Return a Graph of the set that computes on this array: it records work that is called again and again, and replays it
    as machine code (cpu/graph.py) or as a CUDA graph (cuda/graph.py). None for the reference set."""
    name = set_of(array)
    return None if name == "reference" else importlib.import_module(f"{__name__}.{name}.graph").Graph()


def set_of(array: Any) -> str:
    """Return the name of the set that computes on this array."""
    if isinstance(array, np.ndarray):
        return numpy_set() if is_on_host(array) else "cuda"
    if type(array).__module__.partition(".")[0] == "cupy":
        return "cuda"
    raise TypeError(f"an op got {type(array).__name__}; pass a NumPy or a CuPy array")


def _dispatcher(op: str) -> Callable[..., Any]:
    which = 1 if op in DECIDED_BY_SECOND else 0

    def call(*args: Any, **options: Any) -> Any:
        array = args[which]
        name = numpy_set() if type(array) is np.ndarray else set_of(array)
        if name == "reference" and current_autocast().dtype != "float32":
            refuse_reference(op)
        return implementation(op, name)(*args, **options)

    return functools.wraps(implementation(op, "reference"))(call)


def __getattr__(op: str) -> Callable[..., Any]:
    """Make the dispatcher of an op, `kernels.linear_forward` for example, when it is first asked for."""
    if op not in FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {op!r}")
    return globals().setdefault(op, _dispatcher(op))


def __dir__() -> list[str]:
    return sorted({*globals(), *FILE_OF})
