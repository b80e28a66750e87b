"""The op contract: every array operation of tinyllm by name, in three sets that keep in step.

    reference   plain NumPy, one formula a line, any float dtype: for reading, and the truth that the others are held to
    cpu         Numba-JIT, fused, parallel, vectorised: what runs on NumPy arrays
    cuda        CUDA C++ through CuPy: what runs on CuPy arrays; and, emulated, on NumPy arrays

The array decides who computes; inside `with use("reference"):` (or with TINYLLM_KERNELS=reference in the environment)
NumPy arrays go to the plain set. With TINYLLM_DEVICE=emulated, inside `with use("cuda"):` they go to the cuda set, whose
kernels then run on the CPU, slowly, to learn from them. There is no silent fall-back: what the machine lacks is an error.
Inside `with autocast("bfloat16"):` float32 matrices are multiplied in bfloat16, attention's too. Both blocks are local to
the thread (context.py).

The legend of all shapes:
    B batch   T time (query positions)   S source or key positions   C channels   H heads   G key/value heads
    D head size   V vocabulary   F output features of a linear map, feed-forward size   N rows: any leading axes, (..., C)

The laws of an op:
  - `op_forward` stands directly above `op_backward`, with the same names in the same order; a backward takes the incoming
    gradient first. `x` input, `y` output, `w`, `b` weight and bias; `dy`, `dx`, `dw`, `db` the loss's gradients by them.
  - Parameter gradients accumulate (`dw += ...`), and None in their place means that nobody wants them.
    Input gradients are new arrays.
  - Dtype in, dtype out: float32 stays float32. Reductions may accumulate wider. With bfloat16, which the cuda set computes,
    parameter gradients, mean, rstd and lse are float32.
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
from .device import device_of, is_on_host

# file -> its ops
OPS = {
    "linear": (
        "linear_forward",
        "linear_backward",
        "linear_activation_forward",
        "linear_activation_backward",
    ),
    "embedding": ("embedding_forward", "embedding_backward"),
    "position": ("position_forward", "position_backward"),
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
# whose first argument is dloss, a number, or tokens, which may be the host's
DECIDED_BY_SECOND = {"embedding_forward", "dequantize_rows", "cross_entropy_backward", "linear_cross_entropy_backward"}
FILE_OF = {op: file for file, ops in OPS.items() for op in ops}


@functools.cache
def implementation(op: str, name: str) -> Callable[..., Any]:
    """The function that computes `op` in the set `name`; its file is imported on first use."""
    if name not in SETS:
        raise ValueError(f"{name!r} is no kernel set; there are {', '.join(SETS)}")
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
    """A Graph of the set that computes on this array: work that it calls again and again becomes machine code, or a CUDA
    graph (cpu/graph.py, cuda/graph.py). None for the reference set, which has none."""
    name = set_of(array)
    return None if name == "reference" else importlib.import_module(f"{__name__}.{name}.graph").Graph()


def set_of(array: Any) -> str:
    """The name of the set that computes on this array."""
    if type(array) is np.ndarray:
        return numpy_set()
    if isinstance(array, np.ndarray):
        return numpy_set() if is_on_host(array) else "cuda"
    if type(array).__module__.partition(".")[0] == "cupy":
        return "cuda"
    raise TypeError(f"an op takes NumPy or CuPy arrays, and got {type(array).__name__}")


def _dispatcher(op: str) -> Callable[..., Any]:
    which = 1 if op in DECIDED_BY_SECOND else 0

    def call(*args: Any, **options: Any) -> Any:
        name = set_of(args[which])
        if name == "reference":
            refuse_reference(op)
        return implementation(op, name)(*args, **options)

    return functools.wraps(implementation(op, "reference"))(call)


def __getattr__(op: str) -> Callable[..., Any]:
    """`kernels.linear_forward` and the like: made when first asked for."""
    if op not in FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {op!r}")
    return globals().setdefault(op, _dispatcher(op))


def __dir__() -> list[str]:
    return sorted({*globals(), *FILE_OF})
