"""The sizes in a configuration are compared with the weights beside it before a model is built: a damaged or hostile file
must not fill the memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import short
from ..layers.parameter import most
from .files import CheckpointError
from .tensors import TensorFile

LAYERS = {"n_layer", "n_layers", "num_hidden_layers", "num_layers", "num_decoder_layers"}  # a layer has a tensor at least
SIZES = {  # each is at most the number of rows or columns of a tensor, or a part of it
    "vocab_size", "n_positions", "n_head", "n_embd", "n_inner", "hidden_size", "num_attention_heads", "n_heads", "dim",
    "hidden_dim", "intermediate_size", "num_key_value_heads", "head_dim", "d_model", "d_kv", "d_ff", "num_heads",
    "relative_attention_num_buckets", "ffn_dim", "word_embed_proj_dim", "type_vocab_size", "r",
}  # fmt: skip
MAY_BE_ZERO = {"type_vocab_size", "n_inner", "num_key_value_heads"}
ROOM = 4, 1 << 22  # a model may have so many times the numbers of its files, and so many more, before it is refused unseen


def check_sizes(path: Path, fields: Mapping[str, Any], files: Sequence[TensorFile]) -> None:
    """CheckpointError names a field that the weights have no room for, or that is not positive. path: the configuration."""
    tensors, numbers = sum(len(file.entries) for file in files), sum(file.numbers for file in files)
    for name, value in fields.items():
        if name not in LAYERS | SIZES or not isinstance(value, int) or isinstance(value, bool):
            continue
        if value < (name not in MAY_BE_ZERO):
            raise CheckpointError(f"{path}: {name} is {short(value)}, and must be at least 1")
        there, what = (tensors, "tensors") if name in LAYERS else (numbers * ROOM[0] + ROOM[1], "numbers")
        if value > there + 1000:  # a small excess is reported later, tensor by tensor
            raise CheckpointError(
                f"{path}: {name} is {short(value)}, and the weights beside it have {tensors:,} tensors with "
                f"{numbers:,} numbers in all: the two do not belong together"
            )


@contextmanager
def room_for(path: Path, files: Sequence[TensorFile]) -> Iterator[None]:
    """Around the building of a model: CheckpointError if it needs far more memory than the weights, or cannot be built."""
    token = most.set(sum(file.numbers for file in files) * ROOM[0] + ROOM[1])
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, ArithmeticError, MemoryError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    finally:
        most.reset(token)
