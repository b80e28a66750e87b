"""Tokenizers: text to ids and back, each written here, each reading and writing the files that others use.

tokenizer = tinyllm.tokenizers.load(path)
ids = tokenizer.encode("Hello, world!")
text = tokenizer.decode(ids)

A tokenizer file cannot take all time or memory. A regular expression from a file may run for 5 s on a text, and 20
microseconds longer for each character. Normalizers from a file may make a text 100 times as long, and 100,000 characters
longer. What goes beyond is stopped by a TokenizerError that names the file and the pattern (patterns.py has the limits).
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
