"""One text out of another: translation, summarization, and several such tasks in one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import metrics
from ..data import DataError
from ..data.cldr import CLDR
from ..data.made import DATES, FUNCTIONS, LANGUAGES
from ..data.pair_batches import PairBatches, pair_examples, pairs_pass
from ..data.parts import Parts, three_parts
from ..data.sentences import COPIES
from ..data.text_pairs import Pairs, fingerprint, parallel_files, read_pairs
from ..files import atomic_file
from ..models import Model
from ..pipelines.text2text import Use, answers
from ..tokenizers import Tokenizer
from ..training.config import TrainConfig
from ..training.data import Batch, Data, later
from .spans import SETS, model_fields, unigram
from .task import Task, lasting, listed

SHOWN = 3  # texts of each task that are shown at an evaluation


@dataclass(frozen=True)
class Mixture:
    """The pairs of several data, as rows: those of the first, of the second, and so on."""

    data: list[Pairs]

    def keys(self) -> list[str]:
        return [key for pairs in self.data for key in pairs.keys()]

    def groups(self) -> list[int]:
        return [i for i, pairs in enumerate(self.data) for _ in range(len(pairs))]

    def take(self, which: np.ndarray) -> Mixture:
        masks = np.split(which, np.cumsum([len(pairs) for pairs in self.data])[:-1])
        return Mixture([pairs.take(mask) for pairs, mask in zip(self.data, masks)])


@dataclass
class PairTask(Task):
    """What the three tasks share. A subclass says what it is measured by, and its defaults."""

    # Data (--source, --target, --prefix: one for all data, or one for each)
    data: list[str] = field(default_factory=list)  # table of two columns, or two files' common name; several are mixed
    source: list[str] = field(default_factory=list)  # what to read: a column, a file's ending, a language of "dates"
    target: list[str] = field(default_factory=list)  # what to write, likewise
    prefix: list[str] = field(default_factory=list)  # stands before each source, and says what is to be done
    val: list[str] = field(default_factory=list)  # held-out data, named like --data, one for each of these
    val_fraction: float = 0.1  # the part of the data that is held out where --val does not say
    delimiter: str | None = (
        None  # what is between a table's columns: comma, semicolon, tab, or any character; found if not given
    )
    encoding: str = "utf-8"  # how the data files are encoded, such as utf-8, latin-1, windows-1252 or utf-16
    tokenizer: str = "unigram:4096"  # of a fresh model: N tokens learned from the data: unigram:N; or a path
    max_source: int = 128  # tokens of a source; what is longer loses its end
    max_target: int = 64  # tokens of a target
    cap: int = 0  # no data count for more than so many examples in an epoch; 0 is as many as there are
    label_smoothing: float = 0.1  # the share of a target's probability that is spread over all tokens

    # Measuring
    eval_texts: int = 100  # held-out texts, of each data, that are written and measured at an evaluation
    beams: int = 4  # that the trained model searches with; evaluations on the way take the likeliest token
    length_penalty: float = 1.0  # of that search; above 0 favours longer texts, below 0 shorter ones

    sets: ClassVar = SETS
    values: ClassVar = {"eval_batches": 0}
    measures: ClassVar[tuple[str, ...]] = ("exact", "chrf")  # of MEASURES
    best: ClassVar[str] = "chrf"
    usual: ClassVar[str] = ""  # the prefix where nothing says more
    name: ClassVar[str] = "text2text"  # in the model's configuration

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("data", "source", "target", "prefix", "val"):  # from Python a single one may come without brackets
            setattr(self, name, listed(getattr(self, name)))
        for name in ("source", "target", "prefix", "val", "test_data"):
            given = len(getattr(self, name))
            if given not in {0, len(self.data), *({1} if name not in ("val", "test_data") else ())}:
                raise DataError(f"{name} is given {given} times for {len(self.data)} data: give one for each")
        for name, least in {"max_source": 2, "max_target": 2, "beams": 1, "eval_texts": 1, "cap": 0}.items():
            if getattr(self, name) < least:
                raise DataError(f"{name} must be at least {least}, and is {getattr(self, name)}")
        for names in (self.data, self.val, self.test_data):  # a run may be resumed from another folder
            for i, name in enumerate(names):
                before = COPIES if str(name).startswith(COPIES) else ""
                name = str(name).removeprefix(before)
                is_beginning = parallel_files(name, *self.sides(i)) is not None
                names[i] = before + (str(Path(name).resolve()) if is_beginning else lasting(name))

    # Of data i -----------------------------------------------------------------------------------------------------------

    def nth(self, name: str, i: int) -> str | None:
        """The value of an option: its own, or the one for all."""
        values = getattr(self, name)
        return (values[i if len(values) > 1 else 0] or None) if values else None

    def sides(self, i: int) -> tuple[str | None, str | None]:
        """What the two sides are called."""
        source, target = self.nth("source", i), self.nth("target", i)
        return (source or "en", target or "de") if self.data[i] in (DATES, CLDR) else (source, target)

    def prefix_of(self, i: int) -> str:
        """What stands before the sources."""
        source, target = (LANGUAGES[side].name if side in LANGUAGES else None for side in self.sides(i))
        if (given := self.nth("prefix", i)) is not None:
            return given
        if self.data[i].startswith(COPIES):
            return "copy: "
        if source and target:
            return f"translate {source} to {target}: "
        return "summarize: " if self.data[i] == FUNCTIONS else self.usual

    def name_of(self, i: int) -> str:
        """What the model's configuration calls it."""
        if all(side in LANGUAGES for side in self.sides(i)) and not self.data[i].startswith(COPIES):
            return "translation_{}_to_{}".format(*self.sides(i))
        return "summarization" if self.data[i] == FUNCTIONS else self.prefix_of(i).strip(" :") or self.name

    def use_for(self, i: int) -> Use:
        """How the trained model is used."""
        return Use(self.prefix_of(i), self.max_source, self.max_target, self.beams, self.length_penalty)

    # Of all --------------------------------------------------------------------------------------------------------------

    @cached_property
    def divided(self) -> Parts[Mixture]:
        """What to learn from, to validate on, and to test on. A text that several data share is in one part of all."""

        def read(names: list[str]) -> Mixture | None:
            forms = ((*self.sides(i), self.delimiter, self.encoding) for i in range(len(names)))
            return Mixture([read_pairs(name, *form) for name, form in zip(names, forms)]) if names else None

        rows = read(self.data)
        assert rows is not None
        return three_parts(
            rows, read(self.val), read(self.test_data), self.fractions, Mixture.keys, Mixture.take, Mixture.groups
        )

    @property
    def parts(self) -> list[tuple[Pairs, Pairs]]:
        """(to learn from, held out) of each data."""
        return list(zip(self.divided.learned.data, self.divided.validation.data))

    def make_tokenizer(self) -> Tokenizer:
        texts: list[str] = []
        for i, (pairs, _) in enumerate(self.parts):
            texts += [*(self.prefix_of(i) + source for source in pairs.sources), *pairs.targets]
        return unigram(self.tokenizer, lambda: texts)

    def model_fields(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return model_fields(tokenizer)

    def fitted(self, model: Any, tokenizer: Tokenizer) -> Any:
        uses = {self.name_of(i): dataclasses.asdict(self.use_for(i)) for i in range(len(self.data))}
        return model.with_config(task_specific_params={**(model.config.task_specific_params or {}), **uses})

    def open(self, model: Any, tokenizer: Tokenizer, config: TrainConfig) -> Data:
        start, pad, end = model.config.decoder_start_token_id, model.config.pad_token_id or 0, tokenizer.eos_id

        def examples(part: Mixture) -> list[list[Any]]:
            return [
                pair_examples(tokenizer, pairs, self.prefix_of(i), self.max_source, self.max_target, end)
                for i, pairs in enumerate(part.data)
            ]

        def measured(part: Mixture) -> dict[str, Any]:
            rows = [one for group in examples(part) for one in group]
            return {"held_out": lambda: pairs_pass(rows, config.batch_size, start, pad)}

        shown = [pairs.take(spread(len(pairs), self.eval_texts)) for pairs in self.divided.validation.data]
        return PairData(
            batches=PairBatches(examples(self.divided.learned), config.batch_size, config.seed, start, pad, self.cap),
            **measured(self.divided.validation),
            test=later(lambda part: {**measured(part), **self.shown_all(part)}, self.divided.test),
            tokenizer=tokenizer,
            targets=2,
            **self.data_fields(tokenizer, shown),
        )

    def data_fields(self, tokenizer: Tokenizer, shown: Sequence[Pairs]) -> dict[str, Any]:
        """The fields of PairData that follow from the data."""
        learned, validation, test = self.divided.learned, self.divided.validation, self.divided.test
        parts = [pairs for two in zip(learned.data, validation.data) for pairs in two]
        return {
            "sample": lambda model: self.sample(model, tokenizer, shown),
            "fingerprint": fingerprint([*parts, *(test.data if test else ())]),
            "best": self.best,
            "loss_options": {"label_smoothing": self.label_smoothing},
            "report": lambda model, path: self.report(model, tokenizer, shown, path),
            "unit": "text",
            "notes": self.divided.notes,
            "task": self,
            "shown": shown,
        }

    def shown_all(self, part: Mixture) -> dict[str, Any]:
        """The fields of PairData with which all texts of the test part are written, as the trained model writes."""
        shown = [pairs.grouped() for pairs in part.data]
        return {"shown": shown, "search": True, "n": sum(map(len, shown))}

    def written(self, model: Model, tokenizer: Tokenizer, shown: Sequence[Pairs], search: bool = False) -> list[list[str]]:
        """What the model makes of the sources of each data: the likeliest tokens one by one, or what it finds by search."""
        beams = self.beams if search else 1
        uses = [dataclasses.replace(self.use_for(i), num_beams=beams) for i in range(len(shown))]
        return [answers(model, tokenizer, pairs.sources, use) for pairs, use in zip(shown, uses)]

    def measured(self, texts: Sequence[Sequence[str]], shown: Sequence[Pairs]) -> dict[str, float]:
        """The measures over all data together, and where there are several the best of each: chrf_1, chrf_2, ..."""
        together = [text for group in texts for text in group], [group for pairs in shown for group in pairs.references]
        result = {name: MEASURES[name](*together) for name in self.measures}
        for i, (group, pairs) in enumerate(zip(texts, shown) if len(shown) > 1 else ()):
            if group:
                result[f"{self.best}_{i + 1}"] = MEASURES[self.best](group, pairs.references)
        return result

    def sample(self, model: Model, tokenizer: Tokenizer, shown: Sequence[Pairs]) -> str:
        """A few sources, what the model makes of them, and what is right."""
        few = [pairs.take(spread(len(pairs), SHOWN)) for pairs in shown]
        lines = []
        for i, (texts, pairs) in enumerate(zip(self.written(model, tokenizer, few), few)):
            for source, text, target in zip(pairs.sources, texts, pairs.targets):
                lines.append(f"{self.prefix_of(i)}{short(source)}\n  -> {text}   [{short(target)}]")
        return "\n".join(lines)

    def report(self, model: Model, tokenizer: Tokenizer, shown: Sequence[Pairs], path: Path) -> None:
        """held_out.tsv: sources, what the model finds for them by search, and what is right."""
        lines = ["source\twritten\ttarget"]
        for texts, pairs in zip(self.written(model, tokenizer, shown, search=True), shown):
            lines += ["\t".join(" ".join(t.split()) for t in row) for row in zip(pairs.sources, texts, pairs.targets)]
        with atomic_file(path / "held_out.tsv") as file:
            file.write(("\n".join(lines) + "\n").encode("utf-8"))


@dataclass
class Translation(PairTask):
    """Translations, measured by BLEU."""

    # Data
    data: list[str] = field(default_factory=lambda: ["dates"])  # "dates", "cldr", a table, or two files' common name

    help: ClassVar = "texts into another language, from tables (TSV, JSON lines) or two files of lines"
    measures: ClassVar = ("bleu", "chrf")
    best: ClassVar = "bleu"
    usual: ClassVar = "translate: "
    use: ClassVar = 'Let it translate: tinyllm translate {out} "..."'


@dataclass
class Summarization(PairTask):
    """Summaries, measured by ROUGE."""

    # Data
    data: list[str] = field(default_factory=lambda: ["functions"])  # a table, or two files' common name; copies:X beside X
    max_source: int = 256  # tokens of a text; what is longer loses its end

    help: ClassVar = "long texts in short, from tables (JSON lines, TSV) or two files of lines"
    measures: ClassVar = ("rouge1", "rouge2", "rougeL")
    best: ClassVar = "rougeL"
    usual: ClassVar = "summarize: "
    use: ClassVar = "Let it summarize: tinyllm summarize {out} --file text.txt"

    def use_for(self, i: int) -> Use:
        return dataclasses.replace(super().use_for(i), no_repeat_ngram_size=3)


@dataclass
class TextToText(PairTask):
    """Several tasks in one model, each with a prefix; or any one that is neither translation nor summary."""

    # Data
    data: list[str] = field(default_factory=lambda: [DATES, DATES, FUNCTIONS])  # each is a task of its own
    source: list[str] = field(default_factory=lambda: ["en", "en", ""])  # what to read: a column, an ending, a language
    target: list[str] = field(default_factory=lambda: ["de", "fr", ""])  # what to write, likewise

    help: ClassVar = "any text from another: several tasks in one model, told apart by their prefixes"
    use: ClassVar = 'Ask it, with the prefix: tinyllm generate {out} --temperature 0 --prompt "..."'

    def __post_init__(self) -> None:
        if self.data != [DATES, DATES, FUNCTIONS] and (self.source, self.target) == (["en", "en", ""], ["de", "fr", ""]):
            self.source, self.target = [], []  # which were for the default data
        super().__post_init__()
        prefixes = [self.prefix_of(i) for i in range(len(self.data))]
        if len(set(prefixes)) < len(prefixes):
            raise DataError(f"each data needs a prefix of its own, which says what is to be done; they are {prefixes}")


@dataclass
class PairData(Data):
    """Measured by what the model writes."""

    task: Any = None  # a PairTask
    shown: Sequence[Pairs] = ()  # the held-out pairs of each data that are written
    search: bool = False  # whether they are written by the search of the trained model

    def evaluate(self, model: Model, batches: Iterable[Batch]) -> dict[str, float]:
        """loss, and the task's measures of the texts that the model writes: the likeliest token each time, or by search."""
        loss = super().evaluate(model, batches)
        texts = self.task.written(model, self.tokenizer, self.shown, self.search)
        return {**loss, **self.task.measured(texts, self.shown)}


MEASURES: dict[str, Any] = {
    "bleu": metrics.bleu,
    "chrf": metrics.chrf,
    "exact": metrics.exact_match,
    "rouge1": lambda texts, references: metrics.rouge(texts, references)["rouge1"],
    "rouge2": lambda texts, references: metrics.rouge(texts, references)["rouge2"],
    "rougeL": lambda texts, references: metrics.rouge(texts, references)["rougeL"],
}


def spread(size: int, count: int) -> np.ndarray:
    """Which of `size` rows to take so that they are about `count`, evenly spread: (size,) bool."""
    chosen = np.zeros(size, bool)
    chosen[np.linspace(0, size - 1, min(size, count)).astype(np.int64)] = True
    return chosen


def short(text: str) -> str:
    """A text on one line, of a long one its beginning."""
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."
