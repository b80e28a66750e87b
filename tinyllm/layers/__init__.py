"""The layers that the models are built of."""

from .attention import Attention, Context, CrossAttention, Shared
from .block import CrossBlock, PostNormBlock, PreNormBlock, Recompute
from .cache import KVCache, SourceCache
from .dropout import Dropout
from .embedding import Embedding, PositionEmbedding
from .layer import Layer, Mode
from .linear import Linear, LinearActivation
from .lora import Adapter, LoRA
from .mlp import MLP, GatedMLP, activation_named
from .norm import LayerNorm, RMSNorm
from .output import Output
from .quantized import Packed, QuantizedEmbedding, QuantizedLinear, QuantizedLinearActivation, QuantizedOutput, packed_arrays
from .relative import RelativeBias
from .rotary import Rotary

__all__ = [
    "MLP",
    "Adapter",
    "Attention",
    "Context",
    "CrossAttention",
    "CrossBlock",
    "Dropout",
    "Embedding",
    "GatedMLP",
    "KVCache",
    "Layer",
    "LayerNorm",
    "LoRA",
    "Linear",
    "LinearActivation",
    "Mode",
    "Output",
    "Packed",
    "PositionEmbedding",
    "PostNormBlock",
    "PreNormBlock",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedLinearActivation",
    "QuantizedOutput",
    "RMSNorm",
    "Recompute",
    "RelativeBias",
    "Rotary",
    "Shared",
    "SourceCache",
    "activation_named",
    "packed_arrays",
]
