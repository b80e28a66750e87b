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
from .files import TokenizerError, read_json
from .json_parts import ADDED_KEYS, Json, flat, model_type, read_merge, read_template, refuse
from .sentencepiece_json import read_sentencepiece_bpe, read_unigram
from .wordpiece import NORMALIZER_KEYS, WordPieceTokenizer


def read_tokenizer_json(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, with what tokenizer_config.json beside it says."""
    spec = read_json(path)
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise TokenizerError(f"{path} is not a tokenizer.json: it has no 'model'")
    return as_transformers_reads(path, spec)


def as_transformers_reads(path: Path, spec: Json, chosen: TokenizerClass | None = None) -> Tokenizer:
    """The tokenizer of a tokenizer.json, as a class of transformers changes it; None: the class that AutoTokenizer takes."""
    try:
        config = read_config(path.parent)
        in_bytes = any(step["type"] == "ByteLevel" for step in flat(spec.get("pre_tokenizer"), "pretokenizers"))
        chosen = chosen or chosen_class(path.parent, config, in_bytes)
        return from_json(*rebuilt(spec, config, chosen, path.parent))
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(f"{path} is damaged: {type(error).__name__} {error} while reading it") from error


def from_json(spec: Json, config: Json | None = None) -> Tokenizer:
    """The tokenizer that a tokenizer.json, already parsed, describes."""
    config = config or {}
    settings = Settings(
        added=[AddedToken(**{key: token[key] for key in ADDED_KEYS}) for token in spec.get("added_tokens") or ()],
        template=read_template(spec.get("post_processor")),
        roles=roles_of(config),
        **templates_of(config),
        parse_special=not config.get("split_special_tokens", False),
        config=config,
    )
    kind = model_type(spec["model"])
    if kind not in READERS:
        raise TokenizerError(f"its model is {kind!r}; tinyllm reads {', '.join(READERS)}")
    return READERS[kind](spec, settings)


# Characters --------------------------------------------------------------------------------------------------------


def read_character(spec: Json, settings: Settings) -> CharacterTokenizer:
    if spec.get("normalizer") or spec.get("pre_tokenizer") != EVERY_CHARACTER:
        raise TokenizerError(
            "a WordLevel model is read only where each character is a word, as CharacterTokenizer writes it"
        )
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
    if [step["type"] for step in flat(spec.get("decoder"), "decoders")] not in ([], ["ByteLevel"]):
        raise refuse(spec["decoder"], "as decoder of byte-level BPE")
    last = steps.pop()
    if last["type"] != "ByteLevel":
        raise refuse(last, "after ByteLevel")
    use_regex, prefix = last.get("use_regex", True), last.get("add_prefix_space", True)
    patterns = [read_pattern(step) for step in steps]
    vocab, merges = model["vocab"], [read_merge(merge) for merge in model["merges"]]
    forms = [read_form(step) for step in flat(spec.get("normalizer"), "normalizers")]
    if len(forms) > 1:
        raise refuse(spec["normalizer"], "with several steps, for byte-level BPE,")

    bytes_only = all(vocab.get(character) == byte for byte, character in enumerate(BYTE_TO_CHARACTER))
    if bytes_only and not (merges or patterns or use_regex or prefix or forms):
        return ByteTokenizer(settings=settings)
    return BPETokenizer(
        vocab,
        merges,
        settings,
        patterns=patterns,
        use_regex=use_regex,
        add_prefix_space=prefix,
        normalization=forms[0] if forms else None,
        ignore_merges=model.get("ignore_merges", False),
        unknown=model.get("unk_token"),
        fuse_unknown=model.get("fuse_unk", False),
    )


def read_form(step: Json) -> str:
    if step["type"] not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise refuse(step, "as normalizer of byte-level BPE")
    return step["type"]


def read_pattern(step: Json) -> str:
    """The pattern whose matches, and what lies between them, are the words."""
    if step["type"] == "Digits":
        return r"\p{N}" if step["individual_digits"] else r"\p{N}+"
    if step["type"] != "Split" or step["behavior"] != "Isolated" or "Regex" not in step["pattern"]:
        raise refuse(step, "before ByteLevel")
    return step["pattern"]["Regex"]


# WordPiece ---------------------------------------------------------------------------------------------------------


def read_wordpiece(spec: Json, settings: Settings) -> WordPieceTokenizer:
    normalizer, cutter, decoder = spec.get("normalizer"), spec.get("pre_tokenizer"), spec.get("decoder")
    if not normalizer or normalizer["type"] != "BertNormalizer":
        raise refuse(normalizer or {"type": "no normalizer"}, "for WordPiece")
    if not cutter or cutter["type"] != "BertPreTokenizer":
        raise refuse(cutter or {"type": "no pre-tokenizer"}, "for WordPiece")
    if decoder and decoder["type"] != "WordPiece":
        raise refuse(decoder, "as decoder of WordPiece")
    model = spec["model"]
    return WordPieceTokenizer(
        model["vocab"],
        settings,
        normalizer=BertNormalizer(**{key: normalizer[key] for key in NORMALIZER_KEYS}),
        unknown=model["unk_token"],
        prefix=model["continuing_subword_prefix"],
        longest_word=model["max_input_chars_per_word"],
        tidy=decoder is None or decoder.get("cleanup", True),
    )


READERS: dict[str, Callable[[Json, Settings], Tokenizer]] = {
    "BPE": read_bpe,
    "Unigram": read_unigram,
    "WordPiece": read_wordpiece,
    "WordLevel": read_character,
}
