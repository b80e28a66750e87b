"""The layers that the models are built of."""

from .attention import Attention, Context, CrossAttention, RelativeBias, Shared
from .block import MLP, CrossBlock, GatedMLP, PostNormBlock, PreNormBlock
from .elementary import Dropout, Embedding, LayerNorm, Linear, LinearActivation, Output, PositionEmbedding, RMSNorm
from .fused import assembled
from .layer import Layer, Mode, dropout_is_allowed, without_dropout
from .lora import Adapter, LoRA
from .quantized import Packed, QuantizedEmbedding, QuantizedLinear, QuantizedLinearActivation, QuantizedOutput, packed_arrays
from .recompute import Recompute
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
    "assembled",
    "dropout_is_allowed",
    "packed_arrays",
    "without_dropout",
]
