"""SentencePiece's .model, llama2.c's tokenizer.bin, and LLaMA 3's tokenizer.model, which is none but tiktoken's ranks."""

import base64
import binascii
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .added import AddedToken
from .base import Settings, Tokenizer
from .bpe import BPETokenizer
from .byte_characters import to_characters
from .config import added_by_config, read_config, roles_of, templates_of
from .decoders import SPACE
from .files import TokenizerError, read_bytes, read_json
from .protobuf import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    parse_model,
    write_model,
)
from .sentencepiece import BYTE_PIECES, SentencePieceBPETokenizer, template_of
from .spacing import SentencePieceSpacing
from .unigram import UnigramTokenizer, sentinel_tokens

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_model(path: Path) -> Tokenizer:
    """A .model: SentencePiece's, unigram or BPE, or LLaMA 3's list of tokens."""
    data = read_bytes(path)
    try:
        if data[:1] != b"\n" and b"\0" not in data[:1000] and len(data.split(b"\n", 1)[0].split()) == 2:
            return from_tiktoken(data)
        tokenizer = from_sentencepiece(parse_model(data), read_config(path.parent), sentinels_of(path.parent), source=data)
        return with_configured_tokens(tokenizer, path.parent)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None


def with_configured_tokens(tokenizer: Tokenizer, directory: Path) -> Tokenizer:
    """The same tokenizer with the tokens that the files beside a .model add to its pieces, such as <pad> or <|im_end|>.

    Text that spells a special token becomes it, as in transformers, if there is a tokenizer_config.json.
    """
    config, settings, ids = read_config(directory), tokenizer.settings, tokenizer._ids()
    if config:
        added = added_by_config(directory, config, (), settings.added, ids)
        added = [token for token in added if token.special or token.content not in ids]  # SentencePiece finds its own
        parse = settings.parse_special or (directory / "tokenizer_config.json").is_file()
        parse = parse and not config.get("split_special_tokens", False)
        Tokenizer.__init__(tokenizer, replace(settings, added=added, parse_special=parse))
        del tokenizer._ids_by_token
    return tokenizer


def settings_of(model: SentencePieceModel, config: dict[str, Any], sentinels: int = 0) -> Settings:
    """What a .model and the configuration beside it say; sentinels: how many <extra_id_i> come after its pieces."""
    pieces = [text for text, _, _ in model.pieces]
    ids = roles_in(model)
    bos, eos = ids.get("bos"), ids.get("eos")
    add_bos = config.get("add_bos_token", bos is not None)
    add_eos = sentinels > 0 or config.get("add_eos_token", bos is None)  # T5 has no such option
    special = [id for id, (_, _, kind) in enumerate(model.pieces) if kind in (CONTROL, UNKNOWN)]
    return Settings(
        added=[*(AddedToken(pieces[id], id) for id in special), *sentinel_tokens(len(pieces), sentinels)],
        template=template_of(bos if add_bos else None, eos if add_eos else None),
        roles={**{role: pieces[id] for role, id in ids.items()}, **roles_of(config)},
        **templates_of(config),
        parse_special=sentinels > 0,
        config=config,
    )


def roles_in(model: SentencePieceModel) -> dict[str, int]:
    """The ids of the special tokens that a .model has."""
    named = {"bos": model.bos_id, "eos": model.eos_id, "pad": model.pad_id, "unk": model.unk_id}
    kinds = [kind for _, _, kind in model.pieces]
    return {role: id for role, id in named.items() if 0 <= id < len(kinds) and kinds[id] in (CONTROL, UNKNOWN)}


def from_sentencepiece(
    model: SentencePieceModel,
    config: dict[str, Any],
    sentinels: int = 0,
    *,
    settings: Settings | None = None,
    source: bytes | None = None,
) -> Tokenizer:
    """The tokenizer of a parsed .model and the configuration beside it.

    sentinels: how many <extra_id_i> come after its pieces. settings: those that were saved, in place of the configuration.
    source: the .model's bytes, None if there are none yet.
    """
    settings = settings or settings_of(model, config, sentinels)
    if model.model_type not in (UNIGRAM, BPE):
        raise TokenizerError("its model type is neither unigram nor BPE, the two that tinyllm reads")
    pieces = [text for text, _, _ in model.pieces]
    scores = [score for _, score, _ in model.pieces]
    of_kind = {wanted: [id for id, (_, _, kind) in enumerate(model.pieces) if kind == wanted] for wanted in range(1, 7)}
    user_defined = [pieces[id] for id in of_kind[USER_DEFINED]]
    spacing = SentencePieceSpacing(
        model.charsmap,
        model.add_dummy_prefix,
        model.remove_extra_whitespaces,
        user_defined=user_defined,
        suffix=model.whitespace_as_suffix,
        escape=model.escape_whitespaces,
    )
    options: dict[str, Any] = {
        "unknown": roles_in(model).get("unk"),
        "byte_fallback": model.byte_fallback,
        "unknown_text": model.unk_surface,
        "denormalize": denormalizer_of(model),
        "source": source or write_model(model),
    }
    if model.model_type == UNIGRAM:
        matchable = of_kind[NORMAL] + of_kind[USER_DEFINED]
        options |= {"matchable": matchable, "user_defined": of_kind[USER_DEFINED], "single_precision": True}
        return UnigramTokenizer(pieces, scores, spacing, settings, **options)
    merges = merges_of({pieces[id]: scores[id] for id in of_kind[NORMAL] + of_kind[UNUSED]})
    reserved = of_kind[CONTROL] + of_kind[UNKNOWN] + of_kind[BYTE]
    options |= {"frozen": user_defined, "unused": of_kind[UNUSED], "reserved": reserved}
    return SentencePieceBPETokenizer(pieces, merges, spacing, settings, **options)


def denormalizer_of(model: SentencePieceModel) -> Callable[[str], str] | None:
    """What a decoded text goes through."""
    if not model.denormalizer:
        return None
    flags = (model.denormalizer_prefix, model.denormalizer_single_spaces)
    return SentencePieceSpacing(model.denormalizer, *flags, escape=model.denormalizer_escape).normalize


def sentinels_of(directory: Path) -> int:
    """How many sentinels T5's files put after a .model's pieces: they are in the configuration, not in the model."""
    config = read_config(directory)
    is_t5 = config.get("tokenizer_class", "").startswith("T5Tokenizer")
    if not is_t5 and (directory / "config.json").is_file():
        is_t5 = read_json(directory / "config.json").get("model_type") == "t5"
    return config.get("extra_ids", 100 if is_t5 else 0)


LONGEST_PIECE = 1000  # characters, or bytes; each way to part a piece is tried


def check_length(piece: str | bytes) -> None:
    """TokenizerError for a piece that is too long to be one."""
    if len(piece) > LONGEST_PIECE:
        raise TokenizerError(f"the piece {piece[:20]!r}... has {len(piece):,} characters, more than {LONGEST_PIECE:,}")


def merges_of(scores: dict[str, float]) -> list[tuple[str, str, int]]:
    """Every way to make a piece of two; the higher its score, the lower the rank. SentencePiece keeps pieces, not merges."""
    rank_of = {score: rank for rank, score in enumerate(sorted(set(scores.values()), reverse=True))}
    merges = []
    for piece, score in scores.items():
        check_length(piece)
        for middle in range(1, len(piece)):
            left, right = piece[:middle], piece[middle:]
            if (left in scores or len(left) == 1) and (right in scores or len(right) == 1):
                merges.append((left, right, rank_of[score]))
    return merges


def read_llama2c(path: Path) -> SentencePieceBPETokenizer:
    """llama2.c's tokenizer.bin: int32 longest token, then for each token float32 score, int32 length, bytes."""
    data = read_bytes(path)
    pieces, scores = [], []
    at = 4
    try:
        (longest,) = struct.unpack_from("<i", data)
        while at < len(data):
            score, length = struct.unpack_from("<fi", data, at)
            at += 8 + length
            if not 0 <= length <= min(longest, LONGEST_PIECE) or at > len(data):
                raise ValueError(f"a token of {length} bytes")
            if not math.isfinite(score):
                raise ValueError(f"a score of {score}")
            scores.append(score)
            pieces.append(data[at - length : at].decode("utf-8").replace(" ", SPACE))
        if len(pieces) < 259:
            raise ValueError(f"{len(pieces)} tokens")
    except (struct.error, ValueError) as error:
        raise TokenizerError(f"{path} is not a llama2.c tokenizer, or cut off: {error}") from None
    pieces[:3] = ["<unk>", "<s>", "</s>"]  # spelled "\n<s>\n" there, for printing
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(pieces) - 259)]
    pieces[3:259] = BYTE_PIECES
    model = SentencePieceModel(
        list(zip(pieces, scores, kinds)), model_type=BPE, byte_fallback=True, remove_extra_whitespaces=False
    )
    return from_sentencepiece(model, {})  # type: ignore[return-value]


def from_tiktoken(data: bytes) -> BPETokenizer:
    """tiktoken's ranks, "base64 rank" a line, as LLaMA 3's tokenizer.model has them, with its 256 special tokens."""
    try:
        lines = [line.split() for line in data.splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error):
        raise TokenizerError("it is neither a SentencePiece model nor tiktoken's list of tokens and ranks") from None
    merges = []
    for token, rank in ranks.items():
        check_length(token)
        for middle in range(1, len(token)):
            left, right = token[:middle], token[middle:]
            if left in ranks and right in ranks:
                merges.append((rank, ranks[left], ranks[right], to_characters(left), to_characters(right)))
    merges.sort()
    vocab = {to_characters(token): rank for token, rank in ranks.items()}
    added = [AddedToken(name, len(ranks) + i) for i, name in enumerate(llama3_special_tokens())]
    roles = {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"}
    settings = Settings(added, template_of(len(ranks), None), roles=roles, parse_special=False)
    pairs = [(left, right) for *_, left, right in merges]
    return BPETokenizer(
        vocab, pairs, settings, patterns=[LLAMA3_PATTERN], use_regex=False, ignore_merges=True, rank_by_result=True
    )


def llama3_special_tokens() -> list[str]:
    """The names of LLaMA 3's special tokens, in the order of their ids."""
    reserved = (f"<|reserved_special_token_{i}|>" for i in range(251))
    names = ["<|begin_of_text|>", "<|end_of_text|>", *(next(reserved) for _ in range(4))]
    names += ["<|start_header_id|>", "<|end_header_id|>", next(reserved), "<|eot_id|>"]
    return [*names, *reserved]
