"""Conversation: dialogues, with the loss on what the assistant says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from .. import metrics
from ..data import ExampleBatches, PackedBatches, examples_pass, library_dialogues, read_dialogues
from ..data.dialogues import Dialogue, first_request
from ..data.parts import Parts, taken, three_parts
from ..data.text import Texts
from ..generation import chat
from ..models import Model
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, Data, later
from .pairs import short, spread
from .task import Task, lasting, listed
from .text import tokenizer_named

STDLIB = "stdlib"  # questions on Python's library


@dataclass
class ChatTask(Task):
    """Dialogues, with the loss on the assistant's words."""

    # Data
    data: list[str] = field(default_factory=lambda: [STDLIB])  # JSON (lines) of dialogues, a data set's name, or stdlib
    val_data: str | None = None  # a file to measure on; a part of the data if not given
    val_fraction: float = 0.05  # which part; dialogues in which the user says the same first stay together
    delimiter: str | None = (
        None  # what is between a table's columns: comma, semicolon, tab, or any character; found if not given
    )
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    tokenizer: str = "bpe:2048"  # of a fresh model: char, bytes, N learned from the data bpe:N; or a path
    length: int | None = None  # tokens of a dialogue at most: a longer one loses its beginning; as the model takes
    pack: bool = True  # short dialogues share a row, and none sees another

    # Measuring
    eval_texts: int = 50  # held-out dialogues of which a reply is written and compared at an evaluation
    max_reply: int = 60  # tokens of these

    help: ClassVar = "conversation, from dialogues (JSON lines with messages, turns, or instruction and response)"
    sets: ClassVar = ("vocab_size", "eos_token_id", "pad_token_id", "num_labels")
    values: ClassVar = {
        "batch_size": 12, "accumulate": 1, "lr": 5e-4, "warmup": 100, "schedule": "cosine", "steps": 1500, "eval_batches": 0,
    }  # fmt: skip
    use: ClassVar = "Talk to it: tinyllm chat {out}"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data = [lasting(name) for name in listed(self.data)]
        self.val_data = self.val_data and lasting(self.val_data)

    @cached_property
    def divided(self) -> Parts[list[Dialogue]]:
        """What to learn from, to validate on, and to test on: dialogues in which the user says the same first stay
        together."""
        rows, test = ([dialogue for name in names for dialogue in self.read(name)] for names in (self.data, self.test_data))
        validation = self.read(self.val_data) if self.val_data else None
        return three_parts(
            rows,
            validation,
            test or None,
            self.fractions,
            lambda part: [first_request(dialogue) for dialogue in part],
            taken,
        )

    @property
    def parts(self) -> tuple[list[Dialogue], list[Dialogue]]:
        """(to learn from, held out)."""
        return self.divided.learned, self.divided.validation

    def read(self, name: str) -> list[Dialogue]:
        return library_dialogues() if name == STDLIB else read_dialogues(name, self.delimiter, self.encoding)

    def make_tokenizer(self) -> Tokenizer:
        texts = (message["content"] + "\n" for dialogue in self.parts[0] for message in dialogue)
        return tokenizer_named(self.tokenizer, Texts("the dialogues", texts))

    def fitted(self, model: Any, tokenizer: Tokenizer) -> Any:
        return chat.extend(model, tokenizer) if tokenizer.chat_template is None else model

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        length = self.length or model.max_length
        if not 2 <= length <= model.max_length:
            raise ValueError(f"length {length} is not between 2 and what this model takes, {model.max_length}")
        learned = chat.examples(tokenizer, self.divided.learned, length)

        def measured(part: list[Dialogue], eval_texts: int) -> dict[str, Any]:
            kept = chat.examples(tokenizer, part, length)
            some = spread(len(part), eval_texts).nonzero()[0]
            return {
                "held_out": lambda: examples_pass(kept, config.batch_size),
                "shown": [begun for turn, i in enumerate(some) if (begun := to_a_reply(part[i], turn))],
                "n": len(part),
            }

        fields = measured(self.divided.validation, self.eval_texts)
        shown = fields["shown"]
        if self.pack:
            batches: ExampleBatches = PackedBatches(learned, config.batch_size, length, config.seed)
        else:
            batches = ExampleBatches(learned, config.batch_size, config.seed)
        return ChatData(
            batches=batches,
            **fields,
            test=later(lambda part: measured(part, len(part)), self.divided.test),
            tokenizer=tokenizer,
            sample=lambda model: sample(model, tokenizer, shown[:3], self.max_reply),
            fingerprint=Texts(
                "dialogues", [repr(part) for part in (*self.parts, self.divided.test) if part is not None]
            ).fingerprint(),
            unit="dialogue",
            notes=self.divided.notes,
            max_reply=self.max_reply,
        )


def to_a_reply(dialogue: Dialogue, turn: int) -> Dialogue:
    """The dialogue up to one of the assistant's replies, for other turns another; [] where it has none."""
    replies = [i for i, m in enumerate(dialogue) if i and m["role"] == "assistant" and dialogue[i - 1]["role"] == "user"]
    return dialogue[: replies[turn % len(replies)] + 1] if replies else []


@dataclass
class ChatData(Data):
    """Measured by how well replies are predicted, and by the words that written ones share with the right ones."""

    shown: Sequence[Dialogue] = ()  # beginnings of held-out dialogues, whose last reply is written
    max_reply: int = 60  # tokens

    def evaluate(self, model: Model, batches: Iterable[Batch]) -> dict[str, float]:
        """loss; perplexity, its exponential; rouge1 and rougeL of the last reply of some dialogues."""
        measured = super().evaluate(model, batches)
        measured["perplexity"] = math.exp(min(measured["loss"], 700))
        if self.shown and self.tokenizer is not None:
            said = [reply(model, self.tokenizer, dialogue, self.max_reply) for dialogue in self.shown]
            scores = metrics.rouge(said, [dialogue[-1]["content"] for dialogue in self.shown])
            measured |= {name: scores[name] for name in ("rouge1", "rougeL")}
        return measured


def reply(model: Any, tokenizer: Tokenizer, dialogue: Dialogue, max_new_tokens: int) -> str:
    """What the model says, greedily, in place of a dialogue's last message."""
    talk = chat.Chat(model, tokenizer, max_new_tokens=max_new_tokens, temperature=0.0)
    talk.messages = list(dialogue[:-2])
    return "".join(talk.reply(dialogue[-2]["content"]))


def sample(model: Any, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], max_reply: int) -> str:
    """A few questions, and what the model answers now."""
    lines = []
    for dialogue in dialogues:
        lines.append(f"> {short(dialogue[-2]['content'])}\n{reply(model, tokenizer, dialogue, max_reply)}")
    return "\n".join(lines)


def copied(dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """ROUGE of a reply that says again what the user has just said: a baseline."""
    return metrics.rouge([d[-2]["content"] for d in dialogues], [d[-1]["content"] for d in dialogues])
