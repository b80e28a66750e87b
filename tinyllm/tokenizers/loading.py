"""Which file of a directory holds its tokenizer, and what kind of file one is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..files import checked_value
from .added import WHITE_SPACE, AddedToken
from .base import CONVENTIONS, Settings, Tokenizer
from .bert_characters import BertNormalizer
from .bpe import BPETokenizer
from .classes import BERT, GPT2, ROBERTA, chosen_class
from .config import read_config, roles_of
from .files import TokenizerError, read_json, read_text
from .json_types import Id
from .sentencepiece_files import read_llama2c, read_model
from .tokenizer_json import as_transformers_reads, read_tokenizer_json
from .wordpiece import WordPieceTokenizer, bert_vocabulary


def load(path: str | Path) -> Tokenizer:
    """The tokenizer of a directory or of one file.

    tokenizer.json; tokenizer.model or spiece.model (SentencePiece; LLaMA 3's list of tokens); vocab.json and merges.txt,
    or encoder.json and vocab.bpe as OpenAI named them; vocab.txt (BERT); tok*.bin (llama2.c). A directory with several
    takes the first of these that it has. A single file may have another name if it ends in .json or .model.
    TokenizerError: nothing there, damaged, or of a kind not known.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in READERS if (path / name).is_file()), None)
        found = found or next(filter(is_llama2c, sorted(path.iterdir())), None)
        if found is None:
            raise TokenizerError(f"no tokenizer in {path}: it has none of {', '.join(READERS)}")
        return load(found)
    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}: no such file or directory")
    if path.name in READERS:
        return READERS[path.name](path)
    if path.suffix == ".json":
        return read_tokenizer_json(path)
    if path.suffix == ".model":
        return read_model(path)
    if is_llama2c(path):
        return read_llama2c(path)
    raise TokenizerError(f"{path.name} is no tokenizer file that tinyllm knows: {', '.join(READERS)}")


def is_llama2c(path: Path) -> bool:
    return path.suffix == ".bin" and path.name.startswith("tok")


def read_gpt2(path: Path) -> Tokenizer:
    """vocab.json and merges.txt (GPT-2, OPT, RoBERTa), or OpenAI's encoder.json and vocab.bpe, given either of the two."""
    names = ("encoder.json", "vocab.bpe") if path.name in ("encoder.json", "vocab.bpe") else ("vocab.json", "merges.txt")
    vocab_path, merges_path = (path.parent / name for name in names)
    vocab = read_json(vocab_path)
    checked_value(vocab_path, "token", vocab, dict[str, Id], TokenizerError)
    merges = []
    for number, line in enumerate(read_text(merges_path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        left, space, right = line.partition(" ")
        if not (left and right) or " " in right:
            raise TokenizerError(f"{merges_path}, line {number}: {line!r} is not a merge, two tokens with a space between")
        merges.append((left, right))
    spec = {"model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    config = read_config(path.parent)
    chosen = chosen_class(path.parent, config)
    if chosen is None or chosen.model != "BPE":  # nothing names the class
        if not config:
            return BPETokenizer(vocab, merges, Settings(conventional_tokens(vocab), parse_special=False))
        guess = ROBERTA if {"<s>", "</s>", "<mask>"} <= vocab.keys() else GPT2
        chosen = replace(guess, tokens={role: token for role, token in guess.tokens.items() if token in vocab})
    return as_transformers_reads(vocab_path, spec, chosen)


def conventional_tokens(vocab: dict[str, int]) -> list[AddedToken]:
    """The tokens of a vocabulary that are special by their spelling."""
    return [AddedToken(content, id) for content, id in vocab.items() if content in CONVENTIONS]


def read_vocab_txt(path: Path) -> Tokenizer:
    """BERT's vocab.txt, one token a line.

    tokenizer_config.json beside it says whether text is lower-cased, and text is if it does not. A vocab.txt that is
    alone lower-cases unless a token has a capital letter.
    """
    lines = read_text(path).removesuffix("\n").split("\n")
    vocab, settings = bert_vocabulary([line.rstrip(WHITE_SPACE) for line in lines])
    config = read_config(path.parent)
    chosen = chosen_class(path.parent, config)
    if roles_of(config).get("unk", "[UNK]") not in vocab:
        raise TokenizerError(f"{path} is not a WordPiece vocabulary: it has no line {roles_of(config).get('unk', '[UNK]')}")
    if not config and chosen is None:
        cased = any(token != token.lower() for token in vocab if not (token.startswith("[") and token.endswith("]")))
        return WordPieceTokenizer(vocab, settings, normalizer=BertNormalizer(lowercase=not cased))
    return as_transformers_reads(path, {"model": {"type": "WordPiece", "vocab": vocab}}, BERT)


READERS: dict[str, Callable[[Path], Tokenizer]] = {
    "tokenizer.json": read_tokenizer_json,
    "tokenizer.model": read_model,
    "spiece.model": read_model,
    "vocab.json": read_gpt2,
    "merges.txt": read_gpt2,
    "encoder.json": read_gpt2,
    "vocab.bpe": read_gpt2,
    "vocab.txt": read_vocab_txt,
}
