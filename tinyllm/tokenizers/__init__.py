"""Tokenizers: text to ids and back, each written here, each reading and writing the files that others use.

tokenizer = tinyllm.tokenizers.load(path)
ids = tokenizer.encode("Hello, world!")
text = tokenizer.decode(ids)
"""

from .added import AddedToken
from .base import Settings, StreamDecoder, Template, Tokenizer
from .bert_characters import BertNormalizer
from .bpe import BPETokenizer
from .bytes import ByteTokenizer
from .character import CharacterTokenizer
from .files import TokenizerError
from .loading import load
from .sentencepiece import SentencePieceBPETokenizer
from .unigram import UnigramTokenizer
from .wordpiece import WordPieceTokenizer

__all__ = [
    "AddedToken",
    "BPETokenizer",
    "BertNormalizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "SentencePieceBPETokenizer",
    "Settings",
    "StreamDecoder",
    "Template",
    "Tokenizer",
    "TokenizerError",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "load",
]
