"""Read SentencePiece-style tokenizers from a tokenizer.json. The classes themselves write theirs."""

import base64
import binascii

from .base import Settings, Tokenizer, by_id
from .files import TokenizerError
from .json_parts import read_merges
from .json_steps import Json, flat, refuse
from .protobuf import parse_model
from .sentencepiece import SOURCE, SentencePieceBPETokenizer
from .sentencepiece_files import from_sentencepiece
from .spacing import Pipeline
from .splitting import CUTTERS
from .unigram import UnigramTokenizer


def read_source(spec: Json, settings: Settings) -> Tokenizer:
    """The tokenizer of the .model that a tokenizer.json of ours holds; the rest of the file is for other libraries."""
    try:
        source = base64.b64decode(spec["model"][SOURCE], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise TokenizerError(f"the key {SOURCE!r} of its model is not base64: the file is damaged") from None
    model = parse_model(source)
    vocab = spec["model"]["vocab"]
    spelled = vocab if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}
    if spelled != {piece: id for id, (piece, _, _) in enumerate(model.pieces)}:
        raise TokenizerError(
            f"the vocabulary is not that of the SentencePiece model under the key {SOURCE!r}: "
            "one of them was edited; remove the key to read the vocabulary"
        )
    settings.decoder = None
    return from_sentencepiece(model, {}, settings=settings, source=source)


def read_sentencepiece_bpe(spec: Json, settings: Settings) -> SentencePieceBPETokenizer:
    model = spec["model"]
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise TokenizerError(f"BPE with {option} = {model[option]!r} is not supported")
    pieces = by_id(model["vocab"])
    merges = [(*merge, rank) for rank, merge in enumerate(read_merges(model))]
    return SentencePieceBPETokenizer(
        pieces,
        merges,
        read_spacing(spec),
        settings,
        ignore_merges=model.get("ignore_merges", False),
        unknown=model["vocab"].get(model.get("unk_token")),
        byte_fallback=model.get("byte_fallback", False),
        fuse_unknown=model.get("fuse_unk", False),
    )


def read_unigram(spec: Json, settings: Settings) -> UnigramTokenizer:
    model = spec["model"]
    return UnigramTokenizer(
        [piece for piece, _ in model["vocab"]],
        [score for _, score in model["vocab"]],
        read_spacing(spec),
        settings,
        unknown=model["unk_id"],
        byte_fallback=model.get("byte_fallback", False),
    )


def read_spacing(spec: Json) -> Pipeline:
    """The normalizer and pre_tokenizer."""
    cutters = flat(spec.get("pre_tokenizer"), "pretokenizers")
    for step in cutters:
        if step["type"] not in (*CUTTERS, "Metaspace"):
            raise refuse(step, "as pre-tokenizer of a SentencePiece-style vocabulary")
    return Pipeline(flat(spec.get("normalizer"), "normalizers"), cutters)
