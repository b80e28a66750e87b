"""Hugging Face's tokenizer.json, read and written: one function to read each part, beside the one that writes it.

What a file asks for and tinyllm does not do is refused by name, never passed over.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyllm.tokenizers.added import AddedToken
from tinyllm.tokenizers.base import Settings, Template, Tokenizer
from tinyllm.tokenizers.bert_characters import BertNormalizer
from tinyllm.tokenizers.bpe import BYTE_TO_CHARACTER, BPETokenizer
from tinyllm.tokenizers.bytes import ByteTokenizer
from tinyllm.tokenizers.character import CharacterTokenizer
from tinyllm.tokenizers.config import read_config, roles_of
from tinyllm.tokenizers.files import TokenizerError, read_json
from tinyllm.tokenizers.wordpiece import WordPieceTokenizer

Json = dict[str, Any]


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


ADDED_KEYS = ("content", "id", "special", "lstrip", "rstrip", "single_word", "normalized")


def envelope(tokenizer: Tokenizer, **parts: Any) -> Json:
    """A tokenizer.json around its parts: normalizer, pre_tokenizer, decoder, model."""
    added = sorted(tokenizer.settings.added, key=lambda token: token.id)
    parts = {"normalizer": None, "post_processor": write_template(tokenizer), **parts}
    order = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{key: getattr(token, key) for key in ADDED_KEYS} for token in added],
        **{key: parts[key] for key in order},
    }


def model_type(model: Json) -> str:
    """The model's name; files older than tokenizers 0.8 do not give it."""
    if "type" in model:
        return model["type"]
    return "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def flat(part: Json | None, inner: str) -> list[Json]:
    """A part of the file as the list of its steps: none, itself, or those of a Sequence."""
    if part is None:
        return []
    return [step for each in part[inner] for step in flat(each, inner)] if part["type"] == "Sequence" else [part]


def refuse(step: Json, why: str = "") -> TokenizerError:
    return TokenizerError(f"{step['type']} {why or 'here'} is not supported: {step}")


# The post-processor ------------------------------------------------------------------------------------------------


def read_template(part: Json | None) -> Template:
    """Special tokens around a text, from TemplateProcessing, BertProcessing or RobertaProcessing."""
    template = Template()
    for step in flat(part, "processors"):
        if step["type"] == "ByteLevel":  # trims offsets, which touches no id
            continue
        if template != Template():
            raise refuse(step, "after another one")
        if step["type"] == "TemplateProcessing":
            template = Template(_items(step, "single"), _items(step, "pair"))
        elif step["type"] == "BertProcessing":
            cls, sep = step["cls"][1], step["sep"][1]
            single = ((cls, 0), ("A", 0), (sep, 0))
            template = Template(single, (*single, ("B", 1), (sep, 1)))
        elif step["type"] == "RobertaProcessing":
            cls, sep = step["cls"][1], step["sep"][1]
            single = ((cls, 0), ("A", 0), (sep, 0))
            template = Template(single, (*single, (sep, 0), ("B", 0), (sep, 0)))
        else:
            raise refuse(step, "as post-processor")
    return template


def _items(step: Json, name: str) -> tuple[tuple[int | str, int], ...]:
    items: list[tuple[int | str, int]] = []
    for item in step[name]:
        if "Sequence" in item:
            items.append((item["Sequence"]["id"], item["Sequence"]["type_id"]))
        else:
            special = item["SpecialToken"]
            items += [(id, special["type_id"]) for id in step["special_tokens"][special["id"]]["ids"]]
    return tuple(items)


def write_template(tokenizer: Tokenizer) -> Json | None:
    template = tokenizer.settings.template
    if template == Template():
        return None
    special: Json = {}

    def item(entry: tuple[int | str, int]) -> Json:
        what, kind = entry
        if isinstance(what, str):
            return {"Sequence": {"id": what, "type_id": kind}}
        token = tokenizer.id_to_token(what)
        special[str(token)] = {"id": token, "ids": [what], "tokens": [token]}
        return {"SpecialToken": {"id": token, "type_id": kind}}

    single, pair = [item(entry) for entry in template.single], [item(entry) for entry in template.pair]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


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
    if not any(step["type"] == "ByteLevel" for step in steps):
        raise TokenizerError("a BPE model is read where its pre-tokenizer is ByteLevel")
    return read_byte_level(spec, steps, settings)


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


def read_merge(merge: str | list[str]) -> tuple[str, str]:
    """A merge, written "left right" before tokenizers 0.20 and ["left", "right"] since."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


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
    "WordPiece": read_wordpiece,
    "WordLevel": read_character,
}
