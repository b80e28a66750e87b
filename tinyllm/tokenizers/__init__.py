"""Tokenizers: text to ids and back, each written here, each reading and writing the files that others use.

tokenizer = tinyllm.tokenizers.load(path)
ids = tokenizer.encode("Hello, world!")
text = tokenizer.decode(ids)
"""

from tinyllm.tokenizers.added import AddedToken
from tinyllm.tokenizers.base import Settings, StreamDecoder, Template, Tokenizer
from tinyllm.tokenizers.bert_characters import BertNormalizer
from tinyllm.tokenizers.bpe import BPETokenizer
from tinyllm.tokenizers.bytes import ByteTokenizer
from tinyllm.tokenizers.character import CharacterTokenizer
from tinyllm.tokenizers.files import TokenizerError
from tinyllm.tokenizers.loading import load
from tinyllm.tokenizers.sentencepiece import SentencePieceBPETokenizer
from tinyllm.tokenizers.unigram import UnigramTokenizer
from tinyllm.tokenizers.wordpiece import WordPieceTokenizer

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
