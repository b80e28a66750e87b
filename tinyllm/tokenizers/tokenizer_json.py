"""Read Hugging Face's tokenizer.json, with a function for each kind of model. Each tokenizer's class writes its own.

A file may ask for something that tinyllm does not do. The error names it; it is never ignored.
"""

from collections.abc import Callable
from pathlib import Path

from .added import AddedToken
from .base import Settings, Tokenizer
from .bert_characters import BertNormalizer
from .bpe import BPETokenizer
from .byte_characters import BYTE_TO_CHARACTER
from .bytes import ByteTokenizer
from .character import EVERY_CHARACTER, CharacterTokenizer
from .classes import TokenizerClass, chosen_class, rebuilt
from .config import read_config, roles_of, templates_of
from .decoders import decoder_steps
from .files import TokenizerError, read_json
from .json_parts import ADDED_KEYS, model_type, read_merges, read_template
from .json_steps import Json, flat, refuse
from .json_types import check_tokenizer
from .sentencepiece import SOURCE
from .sentencepiece_json import read_sentencepiece_bpe, read_source, read_unigram
from .splitting import CUTTERS
from .wordpiece import NORMALIZER_KEYS, WordPieceTokenizer


def read_tokenizer_json(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, with what tokenizer_config.json beside it says."""
    spec = read_json(path)
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise TokenizerError(f"{path} is not a tokenizer.json: it has no 'model'")
    return as_transformers_reads(path, spec)


def as_transformers_reads(path: Path, spec: Json, chosen: TokenizerClass | None = None) -> Tokenizer:
    """The tokenizer of a tokenizer.json, as a class of transformers changes it; None: the class that AutoTokenizer takes."""
    check_tokenizer(path, spec)
    config = read_config(path.parent)
    try:
        if SOURCE in spec["model"]:  # a SentencePiece model that tinyllm saved
            return from_json(spec, config, path)
        in_bytes = any(step["type"] == "ByteLevel" for step in flat(spec.get("pre_tokenizer"), "pretokenizers"))
        chosen = chosen or chosen_class(path.parent, config, in_bytes)
        return from_json(*rebuilt(spec, config, chosen, path.parent), path)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
    except KeyError as error:
        raise TokenizerError(f"{path} is damaged: {error} is missing") from error


def from_json(spec: Json, config: Json | None = None, file: Path | None = None) -> Tokenizer:
    """The tokenizer that a tokenizer.json, already parsed, describes; file: where it was, for messages."""
    config = config or {}
    settings = Settings(
        added=[AddedToken(**{key: token[key] for key in ADDED_KEYS}) for token in spec.get("added_tokens") or ()],
        template=read_template(spec.get("post_processor")),
        decoder=decoder_steps(spec.get("decoder")),
        truncation=read_truncation(spec.get("truncation")),
        padding=read_padding(spec.get("padding")),
        roles=roles_of(config),
        **templates_of(config),
        parse_special=not config.get("split_special_tokens", False),
        config=config,
        file=file,
    )
    if SOURCE in spec["model"]:
        return read_source(spec, settings)
    kind = model_type(spec["model"])
    if kind not in READERS:
        raise TokenizerError(f"its model is {kind!r}; tinyllm reads {', '.join(READERS)}")
    tokenizer = READERS[kind](spec, settings)
    for token in settings.added:
        id = tokenizer.vocabulary_id(token.content)
        if id not in (None, token.id):
            raise TokenizerError(f"the added token {token.content!r} has the id {token.id}, in its vocabulary it has {id}")
    return tokenizer


def read_truncation(part: Json | None) -> Json | None:
    """The section "truncation", which encode_batch applies."""
    if part is not None and not (isinstance(part["max_length"], int) and part["max_length"] >= 0):
        raise TokenizerError(f"its truncation has max_length {part['max_length']!r}, which should be a number of tokens")
    if part is not None and part.get("direction", "Right") not in ("Left", "Right"):
        raise TokenizerError(f"its truncation has the direction {part['direction']!r}, which should be Left or Right")
    return part


def read_padding(part: Json | None) -> Json | None:
    """The section "padding", which encode_batch applies."""
    if part is None:
        return None
    strategy = part["strategy"]
    fixed = isinstance(strategy, dict) and isinstance(strategy.get("Fixed"), int)
    if not (fixed or strategy == "BatchLongest") or part.get("direction", "Right") not in ("Left", "Right"):
        raise TokenizerError(f"its padding is not supported: {part}")
    if not isinstance(part["pad_id"], int) or not isinstance(part.get("pad_to_multiple_of") or 1, int):
        raise TokenizerError(f"its padding needs whole numbers as pad_id and pad_to_multiple_of: {part}")
    return part


# Characters --------------------------------------------------------------------------------------------------------


def read_character(spec: Json, settings: Settings) -> CharacterTokenizer:
    if spec.get("normalizer") or spec.get("pre_tokenizer") != EVERY_CHARACTER:
        raise TokenizerError(
            "a WordLevel model is read only where each character is a word, as CharacterTokenizer writes it"
        )
    standard_decoder(settings, "Fuse")
    ids = {id: token for token, id in spec["model"]["vocab"].items()}
    return CharacterTokenizer([ids[id] for id in range(len(ids))], settings)


# Byte-level BPE, and bytes, which are BPE without a merge ----------------------------------------------------------


def read_bpe(spec: Json, settings: Settings) -> Tokenizer:
    steps = flat(spec.get("pre_tokenizer"), "pretokenizers")
    if any(step["type"] == "ByteLevel" for step in steps):
        return read_byte_level(spec, steps, settings)
    return read_sentencepiece_bpe(spec, settings)


def read_byte_level(spec: Json, steps: list[Json], settings: Settings) -> BPETokenizer | ByteTokenizer:
    model = spec["model"]
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise TokenizerError(f"byte-level BPE with {option} = {model[option]!r} is not supported")
    at = next(at for at, step in enumerate(steps) if step["type"] == "ByteLevel")
    byte_level, before, after = steps[at], steps[:at], steps[at + 1 :]
    for step in before + after:
        if step["type"] not in CUTTERS:
            raise refuse(step, "beside ByteLevel")
    use_regex, prefix = byte_level.get("use_regex", True), byte_level.get("add_prefix_space", True)
    vocab, merges = model["vocab"], read_merges(model)
    normalizers = flat(spec.get("normalizer"), "normalizers")
    standard_decoder(settings, "ByteLevel")

    bytes_only = all(vocab.get(character) == byte for byte, character in enumerate(BYTE_TO_CHARACTER))
    if bytes_only and not (merges or before or after or use_regex or prefix or normalizers):
        return ByteTokenizer(settings=settings)
    return BPETokenizer(
        vocab,
        merges,
        settings,
        before=before,
        after=after,
        use_regex=use_regex,
        add_prefix_space=prefix,
        normalizers=normalizers,
        ignore_merges=model.get("ignore_merges", False),
        unknown=model.get("unk_token"),
        fuse_unknown=model.get("fuse_unk", False),
    )


def standard_decoder(settings: Settings, kind: str) -> None:
    """Leave decoding to the tokenizer's class where the file has just the decoder that the class has."""
    if [step["type"] for step in settings.decoder or ()] == [kind]:
        settings.decoder = None


# WordPiece ---------------------------------------------------------------------------------------------------------


def read_wordpiece(spec: Json, settings: Settings) -> WordPieceTokenizer:
    normalizer, cutter, decoder = spec.get("normalizer"), spec.get("pre_tokenizer"), settings.decoder
    if not normalizer or normalizer["type"] != "BertNormalizer":
        raise refuse(normalizer or {"type": "no normalizer"}, "for WordPiece")
    if not cutter or cutter["type"] != "BertPreTokenizer":
        raise refuse(cutter or {"type": "no pre-tokenizer"}, "for WordPiece")
    tidy = decoder[0].get("cleanup", True) if decoder else True
    if decoder and decoder[0].get("prefix") == spec["model"]["continuing_subword_prefix"]:
        standard_decoder(settings, "WordPiece")
    model = spec["model"]
    return WordPieceTokenizer(
        model["vocab"],
        settings,
        normalizer=BertNormalizer(**{key: normalizer[key] for key in NORMALIZER_KEYS}),
        unknown=model["unk_token"],
        prefix=model["continuing_subword_prefix"],
        longest_word=model["max_input_chars_per_word"],
        tidy=tidy,
    )


READERS: dict[str, Callable[[Json, Settings], Tokenizer]] = {
    "BPE": read_bpe,
    "Unigram": read_unigram,
    "WordPiece": read_wordpiece,
    "WordLevel": read_character,
}
