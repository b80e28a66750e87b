"""Hugging Face's tokenizer.json, read and written: one function to read each part, beside the one that writes it.

What a file asks for and tinyllm does not do is refused by name, never passed over.
"""

from collections.abc import Callable
from pathlib import Path

from .added import AddedToken
from .base import Settings, Tokenizer
from .bert_characters import BertNormalizer
from .bpe import BYTE_TO_CHARACTER, BPETokenizer
from .bytes import ByteTokenizer
from .character import CharacterTokenizer
from .config import read_config, roles_of
from .files import TokenizerError, read_json
from .json_parts import ADDED_KEYS, Json, envelope, flat, read_merge, read_template, refuse
from .sentencepiece_json import read_sentencepiece_bpe, read_unigram
from .wordpiece import WordPieceTokenizer


def read_tokenizer_json(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, with what tokenizer_config.json beside it says."""
    spec = read_json(path)
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise TokenizerError(f"{path} is not a tokenizer.json: it has no 'model'")
    try:
        return from_json(spec, read_config(path.parent))
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
        chat_template=config.get("chat_template"),
        parse_special=not config.get("split_special_tokens", False),
        config=config,
    )
    kind = model_type(spec["model"])
    if kind not in READERS:
        raise TokenizerError(f"its model is {kind!r}; tinyllm reads {', '.join(READERS)}")
    return READERS[kind](spec, settings)


def model_type(model: Json) -> str:
    """The model's name; files older than tokenizers 0.8 do not give it."""
    if "type" in model:
        return model["type"]
    return "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


# Characters --------------------------------------------------------------------------------------------------------

EVERY_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}


def read_character(spec: Json, settings: Settings) -> CharacterTokenizer:
    if spec.get("normalizer") or spec.get("pre_tokenizer") != EVERY_CHARACTER:
        raise TokenizerError(
            "a WordLevel model is read only where each character is a word, as CharacterTokenizer writes it"
        )
    ids = {id: token for token, id in spec["model"]["vocab"].items()}
    return CharacterTokenizer([ids[id] for id in range(len(ids))], settings)


def character_to_json(tokenizer: CharacterTokenizer) -> Json:
    vocab = {character: id for id, character in enumerate(tokenizer.characters)}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unknown character>"}  # in no vocabulary: an error there too
    return envelope(tokenizer, pre_tokenizer=EVERY_CHARACTER, decoder={"type": "Fuse"}, model=model)


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


def bpe_to_json(tokenizer: BPETokenizer) -> Json:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": tokenizer.add_prefix_space,
        "trim_offsets": True,
        "use_regex": tokenizer.use_regex,
    }
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in tokenizer.patterns
    ]
    sequence = {"type": "Sequence", "pretokenizers": [*splits, byte_level]}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokenizer.unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": tokenizer.fuse_unknown,
        "byte_fallback": False,
        "ignore_merges": tokenizer.ignore_merges,
        "vocab": tokenizer.vocab,
        "merges": [" ".join(merge) for merge in tokenizer.merges],
    }
    return envelope(
        tokenizer,
        normalizer={"type": tokenizer.normalization} if tokenizer.normalization else None,
        pre_tokenizer=sequence if splits else byte_level,
        decoder=byte_level,
        model=model,
    )


def byte_to_json(tokenizer: ByteTokenizer) -> Json:
    vocab = {character: byte for byte, character in enumerate(BYTE_TO_CHARACTER)}
    spec = bpe_to_json(BPETokenizer(vocab, [], tokenizer.settings, use_regex=False))
    return spec


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


NORMALIZER_KEYS = ("lowercase", "strip_accents", "clean_text", "handle_chinese_chars")


def wordpiece_to_json(tokenizer: WordPieceTokenizer) -> Json:
    normalizer = {"type": "BertNormalizer", **{key: getattr(tokenizer.normalizer, key) for key in NORMALIZER_KEYS}}
    model = {
        "type": "WordPiece",
        "unk_token": tokenizer.unknown,
        "continuing_subword_prefix": tokenizer.prefix,
        "max_input_chars_per_word": tokenizer.longest_word,
        "vocab": tokenizer.vocab,
    }
    decoder = {"type": "WordPiece", "prefix": tokenizer.prefix, "cleanup": tokenizer.tidy}
    cutter = {"type": "BertPreTokenizer"}
    return envelope(tokenizer, normalizer=normalizer, pre_tokenizer=cutter, decoder=decoder, model=model)


READERS: dict[str, Callable[[Json, Settings], Tokenizer]] = {
    "BPE": read_bpe,
    "Unigram": read_unigram,
    "WordPiece": read_wordpiece,
    "WordLevel": read_character,
}
