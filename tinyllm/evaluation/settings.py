"""How a model is evaluated: the options of `tinyllm evaluate`, and the keywords of tinyllm.evaluate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Name = Literal[
    "text", "masked", "spans", "classification", "tagging", "qa", "translation", "summarization", "completion",
    "text2text", "chat", "choice",
]  # fmt: skip


@dataclass(kw_only=True)
class Settings:
    """Options of an evaluation. Each concerns the tasks that its comment names, or all."""

    task: Name | None = None  # what is measured; chosen by the model and the form of the data if not given

    # Data
    text_column: str | None = None  # classification: the table's column with the texts; found by its name if not given
    label_column: str | None = None  # classification: the column with the labels
    second_column: str | None = None  # classification: the column with the second text of each pair
    labels: list[str] = field(default_factory=list)  # classification: the file's names of the model's labels, in their order
    source: str | None = None  # pairs of texts: the column, or the file's ending, of what the model reads
    target: str | None = None  # pairs of texts: the column, or the file's ending, of what is right
    column: int = -1  # tagging: the column of a CoNLL file with the tag, counted from 0, or from the end by -1
    delimiter: str | None = None  # character between a table's columns; found if not given
    encoding: str = "utf-8"  # how the data are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    limit: int = 0  # evaluate only the first so many examples, to try a command; 0 takes all

    # Text
    length: int | None = None  # tokens in a window or row; the most that the model takes if not given (spans: 128)
    stride: int | None = None  # text, qa: tokens from one window's beginning to the next (text: no overlap; qa: 128)
    masked: float = 0.15  # masked, spans: the share of the tokens that the model has to guess

    # Writing
    prefix: str | None = None  # text before each source; the model's own if not given
    suffix: str | None = None  # text after each source, for decoders; the model's own if not given
    num_beams: int | None = None  # beams of the search; the model's own number if not given
    length_penalty: float | None = None  # exponent of the length in the search; the model's own if not given
    max_length: int | None = None  # tokens of the longest text that is written; the model's own if not given

    # Measuring
    batch_size: int = 32  # examples that are computed together, at most
    resamples: int = 1000  # bootstrap samples for the intervals
    seed: int = 0  # random seed of the bootstrap

    def __post_init__(self) -> None:
        for name, least in {"batch_size": 1, "resamples": 1, "stride": 1, "length": 2, "limit": 0, "max_length": 1}.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} is {value}, and must be {least} or more")
        if not 0 < self.masked < 1:
            raise ValueError(f"masked is {self.masked}, and must be a share between 0 and 1")
