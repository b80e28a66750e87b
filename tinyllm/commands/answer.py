"""`tinyllm answer MODEL QUESTION --context FILE`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import click

from ..checkpoints.loading import load
from ..data.reading import read_file
from ..data.squad import Question, read_squad
from ..pipelines.question_answering import LONGEST, Answer, answer
from .inputs import FromFile, input_lines, one_line, table_of
from .options import OnDevice
from .options import command as command_of


@dataclass
class Options(OnDevice, FromFile):
    model: Path  # directory of a BERT that was fine-tuned for questions
    question: list[str] = field(default_factory=list)  # a question; may be given several times

    # Text
    context: Path | None = None  # the text file with the answers in it; - is standard input
    context_column: str | None = None  # the table's column with the context of each question; found by its name if not given
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
tinyllm answer runs/qa --file questions.txt --context towns.txt
tinyllm answer runs/qa --file asked.csv --text-column question --context-column context
tinyllm answer runs/qa --squad dev.json > predictions.json
"""


@command_of(Options, EXAMPLES, name="answer")
def command(options: Options) -> None:
    """Find the answers to questions in a text of any length.

    --file has a question on each line, all on the text of --context; or, without --context, a question, a tab and its
    context on each line; or it is a table with a column for each. One line comes out for each line or row, and a blank one
    for a blank one.
    """
    questions = asked_of(options)
    model, tokenizer = load(options.model, options.device, options.dtype)
    if tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer: its answers cannot be read")
    filled = [i for i, one in enumerate(questions) if options.file is None or one.question.strip()]
    asked = [(questions[i].question, questions[i].context) for i in filled]
    sizes = (options.batch_size, options.length, options.stride, options.longest, options.threshold)
    found = answer(model, tokenizer, asked, *sizes)  # type: ignore[arg-type]
    if options.squad is not None:
        said = {one.id: answer.text for one, answer in zip((questions[i] for i in filled), found)}
        click.echo(json.dumps(said, ensure_ascii=False, indent=1))
        return
    by_place = dict(zip(filled, found))
    for i, one in enumerate(questions):
        prefix = f"{one.question} " if len(questions) > 1 and options.file is None else ""
        click.echo(prefix + _shown(by_place[i], options.scores) if i in by_place else "")


def asked_of(options: Options) -> list[Question]:
    """The questions that the options name, each with its context."""
    if sum((bool(options.question), options.file is not None, options.squad is not None)) != 1 or (
        options.question and options.context is None or options.squad is not None and options.context is not None
    ):
        raise ValueError("give --question with --context FILE, or --file FILE, or --squad FILE")
    if options.squad is not None:
        return read_squad(options.squad, options.encoding)
    missing = "give a file with the text that has the answers"
    context = None if options.context is None else read_file(options.context, options.encoding, missing)
    if options.question:
        return [Question(question, question, context or "") for question in options.question]
    assert options.file is not None
    table = table_of(options, options.file, options.context_column)
    if table is not None:
        column = options.text_column or table.known(["question", "text"]) or table.text_column([options.context_column])
        asked = table.texts(column)
        if context is not None:
            return [Question(str(i), question, context) for i, question in enumerate(asked)]
        contexts = table.texts(options.context_column or table.known(["context", "paragraph", "document"]) or "context")
        return [Question(str(i), *pair) for i, pair in enumerate(zip(asked, contexts))]
    lines = input_lines(options.file, options.encoding)
    if context is not None:
        return [Question(str(i), line, context) for i, line in enumerate(lines)]
    if wrong := [i + 1 for i, line in enumerate(lines) if line.strip() and line.count("\t") != 1]:
        raise ValueError(
            f"{options.file}, line {wrong[0]}: without --context a line has a question, one tab and the text with its answer"
        )
    return [Question(str(i), *line.partition("\t")[::2]) for i, line in enumerate(lines)]


def _shown(one: Answer, scores: bool) -> str:
    text = one_line(one.text) or "(no answer)"
    return f"{one.score:.2f}\t{one.start}-{one.end}\t{text}" if scores else text
