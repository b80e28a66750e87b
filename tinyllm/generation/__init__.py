"""From logits to text: sampling, beam search, speculative decoding, and conversation."""

from .cache import KVCache, SourceCache, encoded
from .decoding import complete, generate, stream

__all__ = ["KVCache", "SourceCache", "complete", "encoded", "generate", "stream"]
