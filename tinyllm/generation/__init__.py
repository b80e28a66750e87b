"""From logits to text: sampling, beam search, speculative decoding, and conversation."""

from .decoding import complete, generate, stream

__all__ = ["complete", "generate", "stream"]
