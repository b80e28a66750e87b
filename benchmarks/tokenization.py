"""Byte-pair encoding of a text, tinyllm beside the tokenizers library and tiktoken (both Rust): to learn it, and to use it.

    python benchmarks/tokenization.py book.txt --vocab-size 8192
    python benchmarks/tokenization.py book.txt --gpt2 folder_of_gpt2   # with GPT-2's own vocabulary

Encoding is timed twice: "first", by a tokenizer that has seen no text yet, and "again", by one that has seen this very text
and has kept what its words give. Each has one thread, unless --threads says otherwise: tokenizers can use more to learn.
tiktoken learns no vocabularies fit for comparison, and is left out there. The ids must be equal; two vocabularies that were
learned must encode the text in as many tokens, within a percent.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
from harness import Comparison, Contender


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


# The contenders --------------------------------------------------------------------------------------------------------


def tinyllm_encoder(folder: str) -> Callable[[str], list[int]]:
    from tinyllm import tokenizers

    return tokenizers.load(folder).encode


def rust_encoder(folder: str) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return lambda text: tokenizer.encode(text).ids


def tiktoken_encoder(folder: str) -> Callable[[str], list[int]]:
    import tiktoken

    from tinyllm import tokenizers
    from tinyllm.tokenizers.bpe import GPT2_PATTERN
    from tinyllm.tokenizers.byte_characters import to_bytes

    ours = tokenizers.load(folder)
    assert isinstance(ours, tokenizers.BPETokenizer)
    ranks = {to_bytes(token): id for token, id in ours.vocab.items() if token not in ours.special_tokens}
    return tiktoken.Encoding("it", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


ENCODERS = {"tinyllm": tinyllm_encoder, "tokenizers": rust_encoder, "tiktoken": tiktoken_encoder}


def encoding(name: str, folder: str, path: str, again: bool, threads: int) -> Iterator[dict[str, Any]]:
    """The ids' number, sum and a weighted sum, then the seconds of each pass over the text."""
    text, encode = read(path), ENCODERS[name](folder)
    ids = encode(text)
    yield {"result": [len(ids), sum(ids), sum(i % 1009 * id for i, id in enumerate(ids))]}
    while True:
        encode = encode if again else ENCODERS[name](folder)
        began = time.perf_counter()
        encode(text)
        yield {"seconds": [time.perf_counter() - began]}


def tinyllm_learned(text: str, size: int) -> Callable[[str], list[int]]:
    from tinyllm.tokenizers import BPETokenizer

    return BPETokenizer.train(text, size).encode


def rust_learned(text: str, size: int) -> Callable[[str], list[int]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>"], min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([text], trainer)
    return lambda text: tokenizer.encode(text).ids


LEARNERS = {"tinyllm": tinyllm_learned, "tokenizers": rust_learned}


def learning(name: str, size: int, path: str, threads: int) -> Iterator[dict[str, Any]]:
    """How many tokens the text has in the vocabulary that was learned from it, then the seconds of learning it."""
    text = read(path)
    yield {"result": [len(LEARNERS[name](text, size)(text))]}
    while True:
        began = time.perf_counter()
        LEARNERS[name](text, size)
        yield {"seconds": [time.perf_counter() - began]}


# The comparison --------------------------------------------------------------------------------------------------------


def comparisons(
    path: str, size: int, threads: int, rounds: int, max_foreign: float, gpt2: str | None = None
) -> Iterator[Comparison]:
    """A vocabulary learned, then the text encoded with it, or with the tokenizer of the folder `gpt2`."""
    from tinyllm import tokenizers

    common = threads, rounds, max_foreign
    name = Path(path).name
    options: dict[str, Any] = {"size": size, "path": path}
    contenders = [Contender(peer, "tokenization:learning", {"name": peer, **options}, 1e-2) for peer in LEARNERS]
    yield harness.compare(f"{name}: {size:,} tokens learned", contenders, *common)
    tokenizer = tokenizers.load(gpt2) if gpt2 else tokenizers.BPETokenizer.train(read(path), size)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)  # in the form that the tokenizers library reads
        for again in (False, True):
            options = {"folder": folder, "path": path, "again": again}
            contenders = [Contender(peer, "tokenization:encoding", {"name": peer, **options}, 0.0) for peer in ENCODERS]
            yield harness.compare(f"{name}: encoded, {'again' if again else 'first'}", contenders, *common)


def show(result: Comparison, path: str) -> None:
    megabytes, names = Path(path).stat().st_size / 1e6, [c.name for c in result.present] if result.rounds else []
    harness.show(result, {"\nMB/s": {name: f"{megabytes / result.seconds(name):.2f}" for name in names}})


def main() -> int:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("text", metavar="FILE", help="a text, UTF-8")
    parser.add_argument("--vocab-size", type=int, default=8192, help="tokens to learn from it (default: %(default)s)")
    parser.add_argument("--gpt2", metavar="FOLDER", help="a byte-level BPE tokenizer to encode with; default: the learned")
    parser.set_defaults(threads=1)
    args = parser.parse_args()
    about = harness.machine(args.threads)
    harness.show_machine(about)
    measured = []
    for result in comparisons(args.text, args.vocab_size, args.threads, args.rounds, args.max_foreign, args.gpt2):
        show(result, args.text)
        measured.append(result.to_json())
    if args.json:
        harness.write_json(args.json, about, measured)
    return 0 if all(result["agree"] for result in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
