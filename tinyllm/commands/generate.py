"""`tinyllm generate MODEL`: texts continued on the terminal as they are written."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from ..checkpoints.loading import load
from ..data import tokenizer_fingerprint
from ..data.reading import lines_of, read_file
from ..generation.decoding import complete, stream
from ..tokenizers import Tokenizer
from .options import OnDevice
from .options import command as command_of

USES = "tinyllm fill-mask, classify, tag, answer and embed are for such models"


@dataclass
class Options(OnDevice):
    model: Path  # a training run, a model saved by tinyllm, or a Hugging Face directory

    # Prompts
    prompt: list[str] = field(default_factory=list)  # text to continue, may be given several times; - is standard input
    prompts: Path | None = None  # a file with a prompt on each line; - is standard input
    encoding: str = "utf-8"  # how that file is encoded, such as utf-8, latin-1, windows-1252 or utf-16
    echo: bool = True  # print each prompt before what follows on it
    batch_size: int = 1  # so many prompts are computed together, and printed when they are complete

    # Length
    max_new_tokens: int = 200  # at most so many; a text may end before, with its end token
    stop: list[str] = field(default_factory=list)  # a string before which the text ends, may be given several times
    past_limit: Literal["slide", "error"] = "slide"  # at the model's longest sequence: go on as said above, or refuse

    # Choice of the next token
    temperature: float | None = (
        None  # 0: always the likeliest; 1: as the model says; above: more daring; 0.8, or 0 with beams, if not given
    )
    top_k: int | None = None  # only the k likeliest tokens
    top_p: float | None = None  # only the likeliest tokens whose probabilities reach this sum
    min_p: float | None = None  # only tokens at least so likely as this share of the likeliest
    repetition_penalty: float = 1.0  # above 1: tokens that the text has already are less likely
    no_repeat_ngram_size: int = 0  # no n tokens in a row come twice; 0: they may
    num_beams: int = 1  # above 1: search for the likeliest text, keeping so many
    length_penalty: float = 1.0  # of the search; above 0 favours longer texts, below 0 shorter ones
    seed: int | None = None  # the same seed draws the same text again

    # A smaller model that guesses ahead
    assistant_model: Path | None = None  # its directory, same tokenizer; the text is distributed as without it
    num_assistant_tokens: int = 4  # guesses at a time

    # Numbers
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"  # of the weights; bfloat16 is faster, and for decoders

    def __post_init__(self) -> None:
        if self.temperature is None:
            self.temperature = 0.8 if self.num_beams == 1 else 0.0
        for name in ("batch_size", "num_beams", "num_assistant_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be 1 or more")

    def sampling(self) -> dict[str, Any]:
        names = (
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repetition_penalty",
            "no_repeat_ngram_size",
            "past_limit",
            "seed",
        )
        return {name: getattr(self, name) for name in names}

    def searching(self) -> dict[str, Any]:
        return {"num_beams": self.num_beams, "length_penalty": self.length_penalty} if self.num_beams != 1 else {}


EXAMPLES = """
tinyllm generate runs/gpt-1                                       from nothing
tinyllm generate runs/gpt-1 --prompt "To be, or" --temperature 0  the likeliest continuation
tinyllm generate gpt2 --prompt "def fib(" --stop "\\ndef" --top-p 0.9
tinyllm generate gpt2-large --assistant-model gpt2 --prompt "It was"  the same text, sooner
tinyllm generate runs/gpt-1 --prompts lines.txt --batch-size 16 --no-echo > answers.txt
cat story.txt | tinyllm generate runs/gpt-1 --prompt -
"""


@command_of(Options, EXAMPLES, name="generate")
def command(options: Options) -> None:
    """Continue a text, or several, with a language model.

    The text streams as it is written. A prompt of any length will do: where prompt and text are longer than the model's
    longest sequence, it goes on with the last tokens alone, between half of that length and all of it (--past-limit).
    """
    prompts = list(read_prompts(options))
    model, tokenizer = load(options.model, options.device, options.dtype)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: use tinyllm.generate from Python, with tokens")
    if not (getattr(model, "writes", False) or hasattr(model, "decode")):
        raise ValueError(f"{options.model} is {type(model).__name__}, which does not write texts: {USES}")
    assistant = assistance(options, tokenizer)
    length: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, "stop": [decoded(stop) for stop in options.stop]}
    try:
        for first in range(0, len(prompts), options.batch_size):
            group = prompts[first : first + options.batch_size]
            if options.batch_size == options.num_beams == 1:
                show(options, group[0], stream(model, tokenizer, group[0], **length, **options.sampling(), **assistant))
                continue
            texts = complete(model, tokenizer, group, **length, **options.sampling(), **options.searching(), **assistant)
            for prompt, text in zip(group, texts):
                show(options, prompt, [text])
    except KeyboardInterrupt:
        click.echo()
        sys.exit(130)


def assistance(options: Options, tokenizer: Tokenizer) -> dict[str, Any]:
    """The assistant, loaded; ValueError where its tokenizer is another."""
    if options.assistant_model is None:
        return {}
    assistant, theirs = load(options.assistant_model, options.device, options.dtype)
    if theirs is None or tokenizer_fingerprint(theirs) != tokenizer_fingerprint(tokenizer):
        raise ValueError(f"{options.assistant_model} has another tokenizer than {options.model}: it cannot assist it")
    return {"assistant_model": assistant, "num_assistant_tokens": options.num_assistant_tokens}


def read_prompts(options: Options) -> Iterator[str]:
    for prompt in options.prompt:
        yield sys.stdin.read() if prompt == "-" else prompt
    if options.prompts is not None:
        text = read_file(options.prompts, options.encoding, "give a file with a prompt on each line")
        yield from filter(None, lines_of(text))
    elif not options.prompt:
        yield ""


def decoded(stop: str) -> str:
    """A stop string as the shell gives it, in which \\n is a line end, and \\t a tab."""
    return stop.replace("\\n", "\n").replace("\\t", "\t")


def show(options: Options, prompt: str, pieces: Sequence[str] | Iterator[str]) -> None:
    """One text on the terminal, the prompt dim."""
    following = iter(pieces)
    first = next(following, "")  # before the prompt: what is wrong is said without it
    if options.echo:
        click.secho(prompt, nl=False, dim=True)
    for piece in itertools.chain([first], following):
        click.echo(piece, nl=False)
    click.echo()
