"""Texts that a model writes from others (translations, summaries, completions) and replies in dialogues."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import metrics
from ..data.dialogues import Dialogue, read_dialogues
from ..data.examples import Example, padded
from ..data.pair_batches import PairExample, padded_pairs
from ..data.sentences import sentences
from ..data.text_pairs import read_pairs
from ..generation.chat import chat_format
from ..generation.decoding import end_tokens
from ..models import LanguageModel, Model
from ..pipelines.text2text import Use, answers, prompt, source, written
from ..tokenizers import Tokenizer
from .intervals import Statistic, mean, share
from .losses import OnBatch, loss_measures, rows_at_once, token_losses
from .result import Prediction, Scored
from .settings import Settings

STEMS = {"translation": "transl", "summarization": "summar", "completion": "", "text2text": ""}
REPLY = 100  # tokens of a reply, where `max_length` does not say
ROUGE = ("rouge1", "rouge2", "rougeL")

# Pairs of texts --------------------------------------------------------------------------------------------------------


def evaluate_pairs(
    model: Model, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """bleu, chrf, rouge1, rouge2, rougeL and exact_match of what the model writes; loss and perplexity of the references.

    A source counts once, with the targets of all its rows as references. The baseline copies the source; for summaries it
    takes the first sentence.
    """
    task = settings.task or "text2text"
    pairs = read_pairs(data, settings.source, settings.target, settings.delimiter, settings.encoding).grouped()
    if settings.limit:
        pairs = pairs.take(np.arange(len(pairs)) < settings.limit)
    use = chosen_use(model, task, settings)
    report = None if on_batch is None else lambda done: on_batch(done, len(pairs))
    said = answers(model, tokenizer, pairs.sources, use, settings.batch_size, report)
    first = [next(iter(sentences(text)), "") if task == "summarization" else text for text in pairs.sources]
    name = "the first sentence" if task == "summarization" else "a copy of the source"
    sums = pair_losses(model, tokenizer, pairs.sources, pairs.references, use, settings.batch_size)
    return scored_texts("text", said, pairs.sources, pairs.references, name, first, loss_measures(*sums))


def chosen_use(model: Model, task: str, settings: Settings) -> Use:
    """How the model is used for the task, with what the settings change.

    ValueError if the model knows several such tasks, and neither source and target (translation_en_to_de) nor the prefix
    says which is meant.
    """
    params = getattr(model.config, "task_specific_params", None) or {}
    uses = {name: Use.of(params[name]) for name in params if name.startswith(STEMS[task])}
    ending = f"_{settings.source}_to_{settings.target}"
    for meant in ({name for name in uses if name.endswith(ending)}, {n for n in uses if uses[n].prefix == settings.prefix}):
        uses = {name: use for name, use in uses.items() if name in meant} or uses
    if len(uses) > 1 and settings.prefix is None:
        known = ", ".join(f'{name} with the prefix "{use.prefix}"' for name, use in uses.items())
        raise ValueError(f"the model has several such tasks, {known}: give --prefix, or --task with --source and --target")
    given = {field: value for field in vars(Use()) if (value := getattr(settings, field, None)) is not None}
    return dataclasses.replace(next(iter(uses.values()), Use()), **given)


def pair_losses(
    model: Model,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    references: Sequence[Sequence[str]],
    use: Use,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """For each source the sum of -log p over the tokens of its references, and how many these are, (N,) each."""
    end = end_tokens(model, None, tokenizer)[:1]
    rows = [(i, target) for i, group in enumerate(references) for target in group]
    longest = use.max_source_length + use.max_length
    sums, counts = np.zeros(len(sources)), np.zeros(len(sources))
    order = sorted(rows, key=lambda row: -len(sources[row[0]]) - len(row[1]))
    size = rows_at_once(model, longest, batch_size)
    for first in range(0, len(order), size):
        group = order[first : first + size]
        batch = pair_batch(model, tokenizer, [(sources[i], target) for i, target in group], use, end)
        losses, _ = token_losses(model, batch)
        targets = model.named(batch)["targets"]
        numbers = [i for i, _ in group]
        np.add.at(sums, numbers, losses.sum(1))
        np.add.at(counts, numbers, (targets >= 0).sum(1))
    return sums, counts


def pair_batch(
    model: Model, tokenizer: Tokenizer, pairs: Iterable[tuple[str, str]], use: Use, end: list[int]
) -> tuple[np.ndarray, ...]:
    """The arguments of the model's loss for sources and targets; a target ends with `end`."""
    goes_on = isinstance(model, LanguageModel)
    rows: list[Any] = []
    for text, target in pairs:
        after = [*tokenizer.encode(target, allow_special=False)[: use.max_length - len(end)], *end]
        if goes_on:
            before = prompt(tokenizer, text, use)
            ids = np.array([*before, *after], np.int64)
            room = model.max_length + 1  # type: ignore[attr-defined]
            rows.append(Example(ids[-room:], (np.arange(len(ids)) >= len(before))[-room:]))
        else:
            rows.append(PairExample(np.array(source(tokenizer, text, use, end)), np.array(after)))
    if goes_on:
        return padded(rows, tokenizer.pad_id or 0)
    config: Any = model.config
    return padded_pairs(rows, config.decoder_start_token_id, config.pad_token_id or 0)


def scored_texts(
    unit: str,
    said: list[str],
    sources: Sequence[Any],
    references: Sequence[Sequence[str]],
    baseline_name: str,
    baseline: list[str],
    more: dict[str, Statistic],
) -> Scored:
    """The measures of the texts that a model wrote. more: measures of the model beside those of its texts."""
    found = text_measures(said, references)
    rouge = found["rougeL"].rows[:, 0]
    predictions = [
        Prediction(read, group[0] if len(group) == 1 else list(group), text, float(score))
        for read, group, text, score in zip(sources, references, said, rouge)
    ]
    return Scored(
        unit, len(said), {**found, **more}, baseline_name, text_measures(baseline, references), predictions,
        {"bleu_signature": signature("bleu", references), "chrf_signature": signature("chrf", references)},
    )  # fmt: skip


def text_measures(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Statistic]:
    """BLEU and chrF in percent as sacrebleu computes them, ROUGE as rouge-score does, and the share of exact matches."""
    both = list(zip(texts, references))
    bleu = np.array([metrics.bleu_counts(*one) for one in both], np.float64)
    chrf = np.array([metrics.chrf_nearest(*one).ravel() for one in both], np.float64)
    rouge = [metrics.rouge_scores(*one) for one in both]
    exact = [metrics.exact_match([text], [group]) == 1 for text, group in both]
    return {
        "bleu": Statistic(bleu, metrics.bleu_score),
        "chrf": Statistic(chrf, lambda sums: 100 * metrics.chrf_score(sums.reshape(-1, 3))),
        **{name: mean([one[name] for one in rouge]) for name in ROUGE},
        "exact_match": share(exact),
    }


def signature(measure: str, references: Sequence[Sequence[str]]) -> str:
    """How a measure is computed, in sacrebleu's words."""
    counts = {len(group) for group in references}
    number = counts.pop() if len(counts) == 1 else "var"
    rest = {"bleu": "eff:no|tok:13a|smooth:exp", "chrf": "eff:yes|nc:6|nw:0|space:no"}[measure]
    return f"nrefs:{number}|case:mixed|{rest}"


# Dialogues -------------------------------------------------------------------------------------------------------------


def evaluate_chat(
    model: LanguageModel, tokenizer: Tokenizer, data: str, settings: Settings, on_batch: OnBatch | None = None
) -> Scored:
    """The measures of evaluate_pairs for the last reply of each dialogue, and loss and perplexity of all replies in it. The
    baseline says again what the user has said."""
    dialogues = [
        begun for one in read_dialogues(data, settings.delimiter, settings.encoding) if (begun := to_last_reply(one))
    ]
    dialogues = dialogues[: settings.limit or None]
    if not dialogues:
        raise ValueError(f"{data} has no dialogue in which the assistant replies to the user")
    format = chat_format(tokenizer)
    new = min(settings.max_length or REPLY, model.max_length // 2)
    rows = [format.fitted(one[:-1], model.max_length - new) for one in dialogues]
    report = None if on_batch is None else lambda done: on_batch(done, len(rows))
    use = Use(max_length=new, num_beams=settings.num_beams or 1)
    said = written(model, tokenizer, rows, use, settings.batch_size, format.ends, report)
    asked = [one[-2]["content"] for one in dialogues]
    references = [(one[-1]["content"],) for one in dialogues]
    sums = reply_losses(model, tokenizer, dialogues, settings.batch_size)
    return scored_texts(
        "dialogue", said, [one[:-1] for one in dialogues], references, "what the user said", asked, loss_measures(*sums)
    )


def to_last_reply(dialogue: Dialogue) -> Dialogue:
    """The dialogue up to the assistant's last reply to the user; [] if there is none."""
    replies = [i for i, m in enumerate(dialogue) if i and m["role"] == "assistant" and dialogue[i - 1]["role"] == "user"]
    return dialogue[: replies[-1] + 1] if replies else []


def reply_losses(
    model: LanguageModel, tokenizer: Tokenizer, dialogues: Sequence[Dialogue], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each dialogue the sum of -log p over the tokens of its replies, and how many these are, (N,) each."""
    format, sums, counts = chat_format(tokenizer), np.zeros(len(dialogues)), np.zeros(len(dialogues))
    made = [(i, one) for i, d in enumerate(dialogues) if (one := format.example(d, model.max_length)) is not None]
    made.sort(key=lambda row: -len(row[1].tokens))
    size = rows_at_once(model, len(made[0][1].tokens), batch_size) if made else 1
    for first in range(0, len(made), size):
        group = made[first : first + size]
        batch = padded([one for _, one in group], tokenizer.pad_id or 0)
        numbers = [i for i, _ in group]
        sums[numbers] = token_losses(model, batch)[0].sum(1)
        counts[numbers] = (batch[1] >= 0).sum(1)
    return sums, counts
