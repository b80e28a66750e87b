"""`tinyllm answer MODEL QUESTION --context FILE`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import click

from ..checkpoints.loading import load
from ..data.squad import Question, read_squad
from ..pipelines.question_answering import LONGEST, Answer, answer
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice):
    model: Path  # directory of a BERT that was fine-tuned for questions
    question: list[str] = field(default_factory=list)  # a question; may be given several times

    # Text
    context: Path | None = None  # the text file that the answers stand in; - reads standard input
    squad: Path | None = None  # a file in SQuAD's JSON, whose questions are answered as {id: answer}

    # Answers
    stride: int = 128  # a long text is read in windows, each so many tokens further on
    length: int | None = None  # tokens in a window; 384 at most if not given
    longest: int = LONGEST  # tokens of an answer at most
    threshold: float | None = None  # no answer where it scores less; 0 for models that learned this; always one if not given
    scores: bool = False  # the score and the place before each answer
    batch_size: int = 32  # windows read at once
    dtype: str = "float32"  # float32 or float64


EXAMPLES = """
tinyllm answer runs/qa --question "Who is the mayor of Elmouth?" --context towns.txt
cat towns.txt | tinyllm answer runs/qa --question "When is the market?" --context - --scores
tinyllm answer runs/qa --squad dev.json > predictions.json
"""


@command_of(Options, EXAMPLES, name="answer")
def command(options: Options) -> None:
    """Find the answers to questions in a text of any length."""
    if (options.context is None) == (options.squad is None) or (options.context is not None and not options.question):
        raise ValueError("give --question with --context FILE, or --squad FILE")
    model, tokenizer = load(options.model, options.device, options.dtype)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: its answers cannot be read")
    if options.squad is not None:
        questions = read_squad(options.squad)
    else:
        text = _read(options.context)
        questions = [Question(question, question, text) for question in options.question]
    asked = [(one.question, one.context) for one in questions]
    sizes = (options.batch_size, options.length, options.stride, options.longest, options.threshold)
    found = answer(model, tokenizer, asked, *sizes)  # type: ignore[arg-type]
    if options.squad is not None:
        said = {one.id: answer.text for one, answer in zip(questions, found)}
        click.echo(json.dumps(said, ensure_ascii=False, indent=1))
        return
    for (question, _), one in zip(asked, found):
        prefix = f"{question} " if len(asked) > 1 else ""
        click.echo(prefix + _shown(one, options.scores))


def _shown(one: Answer, scores: bool) -> str:
    text = one.text or "(no answer)"
    return f"{one.score:.2f}\t{one.start}-{one.end}\t{text}" if scores else text


def _read(path: Path | None) -> str:
    return sys.stdin.read() if str(path) == "-" else Path(str(path)).read_text(encoding="utf-8-sig")
