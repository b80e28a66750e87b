"""What a model's calls look at beside their inputs, and how a model is described."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..kernels.common import IGNORE
from ..layers import Packed

SIZES = {  # of a model, for its repr: the fields of the configurations that have them
    "layers": ("n_layer", "num_hidden_layers", "num_layers", "num_decoder_layers"),
    "channels": ("n_embd", "hidden_size", "d_model"),
    "tokens in the vocabulary": ("vocab_size",),
}


def described(model: Any) -> str:
    """A model's kind, sizes, dtype and device: GPT(124,439,808 parameters, 12 layers, 768 channels, ...)."""
    packed = {id(w): w for layer in model.layers() if isinstance(w := getattr(layer, "w", None), Packed)}
    size = sum(p.size for p in model.parameters()) + sum(math.prod(w.shape) for w in packed.values())
    parts = [f"{size:,} parameters"]
    for what, names in SIZES.items():
        if found := [value for name in names if (value := getattr(model.config, name, None))]:
            parts.append(f"{' + '.join(f'{n:,}' for n in found)} {what}")
    parts.append(f"{model.dtype} on {model.device}")
    if model.bits is not None:
        parts.append(f"matrices in {model.bits} bits")
    if model.lora is not None:
        parts.append(f"adapters of rank {model.lora.r} with {model.n_parameters:,} trained parameters")
    return f"{type(model).__name__}({', '.join(parts)})"


def warn_if_unshifted(model: Any, tokens: np.ndarray, targets: np.ndarray) -> None:
    """Warns once for each model that targets (B, T) are its tokens (B, T), unless these are shifted too (a a a a)."""
    shifted = (targets[:, :-1] == tokens[:, 1:]) | (targets[:, :-1] == IGNORE)
    if not shifted.all() and not model.warned:
        model.warned = True
        warnings.warn(
            "the targets are the tokens themselves, so the model would learn to copy each token: targets[:, t] must be the "
            "token that follows tokens[:, t], as in loss(text[:, :-1], text[:, 1:])",
            stacklevel=3,
        )
