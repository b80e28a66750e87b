"""llama2.c's checkpoints, version 0: seven numbers, then all weights in float32, little-endian.

The numbers: channels, feed-forward features, layers, heads, key/value heads, vocabulary (negative where the output has a
matrix of its own), longest sequence. The weights: each kind for all layers in a row, in the order of `_places`. Rotary
positions turn neighbouring pairs. The tokenizer is a file of its own beside it: tok512.bin for 512 tokens, or tokenizer.bin.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import tokenizers
from ..models import Llama, LlamaConfig
from ..tokenizers import Tokenizer
from .files import CONFIG, CheckpointError

HEADER = 7
BOS, EOS = 1, 2  # the first token of a text; a new one, like an end, means that the text is over
MAGIC = 0x616B3432  # "ak42": how later versions begin


def weight_file(path: Path) -> Path | None:
    """The file of weights that `path` is, or that stands in the directory `path`; None where it is of another kind."""
    if path.is_file():
        return path if path.suffix == ".bin" else None
    if (path / CONFIG).exists():
        return None
    files = [file for file in path.glob("*.bin") if not file.name.startswith("tok")]
    return files[0] if len(files) == 1 else None


def load(file: Path, dtype: str = "float32") -> tuple[Llama, Tokenizer | None]:
    """The model in a file of llama2.c, and its tokenizer, or None where none stands beside it.

    CheckpointError (a ValueError) where the file is damaged or of another kind.
    """
    model = Llama(_read_config(file), seed=None, dtype=dtype)
    numbers, start = np.memmap(file, "<f4", "r"), HEADER
    for place in _places(model):
        place[...] = numbers[start : start + place.size].reshape(place.shape)
        start += place.size
    return model, _read_tokenizer(file.parent, model.config.vocab_size)


def _read_config(file: Path) -> LlamaConfig:
    header = np.fromfile(file, "<i4", HEADER)
    if len(header) and header[0] == MAGIC:
        raise CheckpointError(
            f"{file} is of a later version of llama2.c's format; tinyllm reads version 0 (export --version 0)"
        )
    if len(header) < HEADER or 0 in header or (np.delete(header, 5) < 0).any():
        raise CheckpointError(f"{file} has no header of llama2.c's: it is damaged, or of another kind")
    C, F, n_layers, H, G, V, longest = map(int, header)
    attention, feed_forward, tables = 2 * C * C + 2 * C * (C // H * G), 3 * C * F, longest * (C // H // 2 * 2)
    size = 4 * (HEADER + abs(V) * C * (1 + (V < 0)) + n_layers * (2 * C + attention + feed_forward) + C + tables)
    if file.stat().st_size != size:
        raise CheckpointError(
            f"{file} has {file.stat().st_size:,} bytes, and its header promises {size:,}: it was cut short, "
            "or is of another kind"
        )
    try:
        return LlamaConfig(
            vocab_size=abs(V),
            hidden_size=C,
            intermediate_size=F,
            num_hidden_layers=n_layers,
            num_attention_heads=H,
            num_key_value_heads=G,
            max_position_embeddings=longest,
            rms_norm_eps=1e-5,
            rope_neighbours=True,
            tie_word_embeddings=V > 0,
            eos_token_id=[BOS, EOS],
        )
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _places(model: Llama) -> Iterator[np.ndarray]:
    """Where the numbers of the file belong, in its order: as many as _read_config has counted."""
    c, blocks = model.config, model.blocks
    H, G, D = c.num_attention_heads, c.num_key_value_heads or c.num_attention_heads, c.head_dim or 0
    qkv = [np.split(block.attention.qkv.w.data, [H * D, (H + G) * D]) for block in blocks]
    gate_up = [np.split(block.mlp.gate_up.w.data, 2) for block in blocks]
    yield model.tokens.w.data
    yield from (block.norm1.w.data for block in blocks)
    for part in range(3):
        yield from (parts[part] for parts in qkv)
    yield from (block.attention.proj.w.data for block in blocks)
    yield from (block.norm2.w.data for block in blocks)
    yield from (gate for gate, _ in gate_up)
    yield from (block.mlp.down.w.data for block in blocks)
    yield from (up for _, up in gate_up)
    yield model.norm.w.data
    yield np.empty((2, c.max_position_embeddings, D // 2), np.float32)  # sines and cosines, computed anew here
    if not c.tie_word_embeddings:
        yield model.output.w.data


def _read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer | None:
    names = (f"tok{vocab_size}.bin", "tokenizer.bin")
    found = next((directory / name for name in names if (directory / name).is_file()), None)
    return None if found is None else tokenizers.load(found)
