"""Measures of what a model gives: of labels, of answers, of translations and summaries.

Each is on the scale of the script that everybody compares with: BLEU and chrF (sacrebleu's) and SQuAD's from 0 to 100, the
others from 0 to 1 (Matthews' from -1).
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .data.batches import IGNORED

References = Sequence[str | Sequence[str]]  # for each text one reference, or several

# Labels ----------------------------------------------------------------------------------------------------------------


def accuracy(predictions: Any, targets: Any) -> float:
    """The share of predictions that are right. Both of one shape; targets of -100 do not count."""
    predictions, targets = counted(predictions, targets)
    return float((predictions == targets).mean()) if targets.size else 0.0


def f1(predictions: Any, targets: Any, positive: int | None = 1) -> float:
    """2 TP / (2 TP + FP + FN) of the class `positive`; None: the mean over all classes that occur. -100 is ignored."""
    predictions, targets = counted(predictions, targets)
    classes = [positive] if positive is not None else np.union1d(predictions, targets)
    scores = []
    for label in classes:
        said, true = predictions == label, targets == label
        scores.append(2 * (said & true).sum() / max(said.sum() + true.sum(), 1))
    return float(np.mean(scores)) if len(scores) else 0.0


def matthews(predictions: Any, targets: Any) -> float:
    """The correlation of predictions and targets as one-hot vectors, 0 where either is constant. -100 is ignored.

    cov(P, T) / sqrt(cov(P, P) cov(T, T)), each summed over classes (Gorodkin 2004); of two classes Matthews' (1975).
    """
    predictions, targets = counted(predictions, targets)
    classes = np.union1d(predictions, targets)
    P, T = ((labels[:, None] == classes).astype(np.float64) for labels in (predictions, targets))  # (N, classes)
    P, T = (onehot - onehot.mean(0) if len(onehot) else onehot for onehot in (P, T))
    size = math.sqrt((P * P).sum() * (T * T).sum())
    return float((P * T).sum() / size) if size else 0.0


def tag_f1(
    predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], names: Iterable[str] | None = None
) -> float:
    """2 TP / (2 TP + FP + FN) of whole names (Tjong Kim Sang & De Meulder 2003): a name counts if its words and its kind are
    all right. Both are labels by text and word. 0 if no text has a name.

    The labels are B-, I-, O (IOB1 and IOB2), I-, E-, O (IOE1 and IOE2), or with S-, E- (BIOES) or U-, L- (BILOU), each with
    a kind or without. The result equals that of seqeval, which is run in its strict mode for BIOES and BILOU.
    names: all labels that the data have, which decide between these; those of predictions and targets if not given.
    """
    known = set(names) if names is not None else {label for text in (*predictions, *targets) for label in text}
    both = ours = theirs = 0
    for said, true in zip(predictions, targets, strict=True):
        if len(said) != len(true):
            raise ValueError(f"a text has {len(true)} words, and {len(said)} labels were predicted for it")
        found, right = tag_spans(said, known), tag_spans(true, known)
        both += len(found & right)
        ours += len(found)
        theirs += len(right)
    return f_score(both, ours, theirs)


def tag_spans(tags: Sequence[str], names: Iterable[str] = ()) -> set[tuple[str, int, int]]:
    """The names that labels mark: (kind, first word, end). `names`: further labels that decide the scheme, as in tag_f1.

    B-, I-, E-: a label that does not go on with the kind before it begins a name, as in the script of CoNLL 2003.
    BIOES, BILOU: a name is S, or B, I ... I, E of one kind; anything else is none. A label of no scheme, such as NOUN, is a
    name of one word.
    """
    labels = {*tags, *names}
    alone = all(
        label in CHUNK or label[:2] in CHUNK_OF for label in labels
    )  # then "B" is a beginning, and no part of speech
    parts = [chunk(label, alone) for label in tags]
    letters = {chunk(label, alone)[0] for label in labels}
    return strict_spans(parts) if letters & {"S", "L", "U"} or letters >= {"B", "E"} else loose_spans(parts)


CHUNK = ("B", "I", "O", "E", "S", "L", "U")  # beginning, inside, outside, end, single, last, unit
CHUNK_OF = tuple(f"{letter}-" for letter in CHUNK)


def chunk(label: str, alone: bool = True) -> tuple[str, str]:
    """A label as (its letter, its kind); alone: whether a letter without a kind is one. ("", label) of any other label."""
    if label[:2] in CHUNK_OF or alone and label in CHUNK or label == "O":
        return label[0], label[2:] or "_"
    return "", label


def loose_spans(parts: Sequence[tuple[str, str]]) -> set[tuple[str, int, int]]:
    """The names of IOB1, IOB2, IOE1 and IOE2."""
    found, first, outside = set(), 0, ("O", "_")
    for i, (before, now) in enumerate(zip([outside, *parts], [*parts, outside])):
        if now[0] in ("I", "E") and before[0] in ("B", "I") and before[1] == now[1]:
            continue
        if before[0] != "O":
            found.add((before[1], first, i))
        first = i
    return found


def strict_spans(parts: Sequence[tuple[str, str]]) -> set[tuple[str, int, int]]:
    """The names of BIOES and BILOU."""
    found = set()
    for first, (letter, kind) in enumerate(parts):
        last = first
        if letter == "B":
            last = next(i for i in range(first + 1, len(parts) + 1) if i == len(parts) or parts[i] != ("I", kind))
        ends = ("E", "L") if letter == "B" else ("S", "U", "") if letter in ("S", "U", "") else ()
        if last < len(parts) and parts[last][0] in ends and parts[last][1] == kind:
            found.add((kind, first, last + 1))
    return found


def counted(predictions: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as flat arrays, without the targets that are ignored."""
    predictions, targets = np.asarray(predictions), np.asarray(targets)
    if predictions.shape != targets.shape:
        raise ValueError(f"predictions have shape {predictions.shape} and targets {targets.shape}; they must be of one")
    return predictions[targets != IGNORED], targets[targets != IGNORED]


# Answers ---------------------------------------------------------------------------------------------------------------


def exact_match(predictions: Sequence[str], references: References) -> float:
    """The share of predictions that are, but for spaces around them, one of their references."""
    right = [text.strip() in {r.strip() for r in group} for text, group in paired(predictions, references)]
    return sum(right) / len(right) if right else 0.0


def squad(
    predictions: Mapping[str, str], answers: Mapping[str, Sequence[str]], no_answer: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Exact match and F1 in percent by question id, as the SQuAD 2.0 script defines them (Rajpurkar et al. 2018).

    predictions: "" where the model gives no answer; answers: [] where there is none, else each that counts as right, the
    best of which is taken. Questions without a prediction count as wrong. -> exact, f1, and, where some questions have no
    answer, both for those that have one (HasAns_) and that have none (NoAns_). no_answer: how sure the model is that there
    is none; adds best_exact and best_f1, what the best threshold on it would give, and these thresholds.
    """
    if not answers:
        raise ValueError("there are no questions to measure")
    both = {id: (0.0, 0.0) if id not in predictions else squad_scores(predictions[id], answers[id]) for id in answers}
    kinds = {"": list(answers), "HasAns_": [id for id in answers if answers[id]]}
    kinds["NoAns_"] = [id for id in answers if not answers[id]]
    result = {}
    for prefix, ids in kinds.items():
        if ids and kinds["NoAns_"] or not prefix:
            result[f"{prefix}exact"] = 100 * sum(both[id][0] for id in ids) / len(ids)
            result[f"{prefix}f1"] = 100 * sum(both[id][1] for id in ids) / len(ids)
    if no_answer is not None:
        for i, name in enumerate(("exact", "f1")):
            score, threshold = best_threshold({id: s[i] for id, s in both.items()}, predictions, answers, no_answer)
            result |= {f"best_{name}": 100 * score / len(answers), f"best_{name}_threshold": threshold}
    return result


def squad_scores(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """The exact match and the F1 of one prediction, each against the best of its answers."""
    answers = [answer for answer in answers if squad_words(answer)] or [""]
    return max(squad_exact(prediction, a) for a in answers), max(squad_f1(prediction, a) for a in answers)


def squad_words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def squad_exact(prediction: str, answer: str) -> float:
    return float(squad_words(prediction) == squad_words(answer))


def squad_f1(prediction: str, answer: str) -> float:
    """Of the words that both have, each as often as in both; of no words against no words 1."""
    said, true = squad_words(prediction), squad_words(answer)
    if not said or not true:
        return float(said == true)
    return f_score(overlap(Counter(said), Counter(true)), len(said), len(true))


def best_threshold(
    scores: Mapping[str, float], predictions: Mapping[str, str], answers: Mapping[str, Any], no_answer: Mapping[str, float]
) -> tuple[float, float]:
    """The best sum of scores when no answer is given above a threshold of no_answer, and the first such threshold."""
    total = float(sum(not answers[id] for id in answers))  # all left unanswered
    best, threshold = total, 0.0
    for id in sorted(no_answer, key=lambda id: no_answer[id]):
        if id in scores:
            total += scores[id] if answers[id] else -1.0 if predictions.get(id) else 0.0
            if total > best:
                best, threshold = total, no_answer[id]
    return best, threshold


# Translations and summaries --------------------------------------------------------------------------------------------


def bleu(hypotheses: Sequence[str], references: References, max_order: int = 4) -> float:
    """The BLEU of a corpus in percent (Papineni et al. 2002): brevity penalty times the geometric mean of the precisions.

    As sacrebleu computes it (Post 2018): texts split as by mteval-v13a, case kept, an order without a match counted as 1/2,
    1/4, ... of one; of several references the length is the nearest, and an n-gram counts as often as in any of them.
    """
    counts = [bleu_counts(hypothesis, group, max_order) for hypothesis, group in paired(hypotheses, references)]
    return bleu_score(np.sum(counts, 0)) if counts else 0.0


def bleu_counts(hypothesis: str, references: Sequence[str], max_order: int = 4) -> np.ndarray:
    """What a text adds to the BLEU of its corpus: its length, that of the nearest reference, then for each order how many of
    its n-grams a reference has, then how many it has, (2 + 2 max_order,)."""
    words, others = bleu_words(hypothesis), [bleu_words(text) for text in references]
    nearest = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
    matches, totals = [], []
    for n in range(1, max_order + 1):
        known: Counter = Counter()
        for other in others:
            known |= ngrams(other, n)
        matches.append(overlap(ngrams(words, n), known))
        totals.append(max(len(words) - n + 1, 0))
    return np.array([len(words), nearest, *matches, *totals])


def bleu_score(counts: np.ndarray) -> float:
    """The BLEU in percent of summed bleu_counts."""
    length, reference_length, *both = counts.tolist()
    max_order = len(both) // 2
    matches, totals = both[:max_order], both[max_order:]
    if not any(matches) or not all(totals):
        return 0.0
    logarithms, halved = [], 1
    for match, total in zip(matches, totals):
        halved *= 1 if match else 2
        logarithms.append(math.log((match or 1 / halved) / total))
    return 100 * math.exp(sum(logarithms) / max_order + min(0.0, 1 - reference_length / length))


# The rules of mteval-v13a, one after the other: ASCII punctuation stands alone, but for - and ', and . and , inside numbers
MTEVAL_RULES = (
    (re.compile(f"([{re.escape(''.join(set(string.punctuation) - set(chr(39) + ',-.')))}])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}


def bleu_words(text: str) -> list[str]:
    """A text in words and punctuation, as mteval-v13a splits it."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character)
    text = f" {text} "
    for pattern, replacement in MTEVAL_RULES:
        text = pattern.sub(replacement, text)
    return text.split()


def chrf(hypotheses: Sequence[str], references: References, max_order: int = 6, beta: float = 2.0) -> float:
    """The chrF of a corpus in percent (Popovic 2015): the F-score of n-grams of characters, spaces left out.

    Precision and recall are means over the orders up to max_order, and recall weighs beta times as much. As sacrebleu
    computes it: counts are summed over the corpus, of several references with the one that a text comes nearest to.
    """
    total = np.zeros((max_order, 3), np.int64)
    for hypothesis, group in paired(hypotheses, references):
        total += chrf_nearest(hypothesis, group, max_order, beta)
    return 100 * chrf_score(total, beta)


def chrf_nearest(hypothesis: str, references: Sequence[str], max_order: int = 6, beta: float = 2.0) -> np.ndarray:
    """chrf_counts with the reference that the text comes nearest to, the first of equals."""
    each = [chrf_counts(hypothesis, reference, max_order) for reference in references]
    return max(each, key=lambda counts: chrf_score(counts, beta))


def chrf_counts(hypothesis: str, reference: str, max_order: int) -> np.ndarray:
    """For each order, how many n-grams the hypothesis has, the reference, and both: (max_order, 3)."""
    texts = ["".join(text.split()) for text in (hypothesis, reference)]
    counts = []
    for n in range(1, max_order + 1):
        ours, theirs = (ngrams(text, n) for text in texts)
        counts.append([ours.total() if theirs else 0, theirs.total(), overlap(ours, theirs)])
    return np.array(counts)


def chrf_score(counts: np.ndarray, beta: float = 2.0) -> float:
    """The chrF, from 0 to 1, of summed chrf_counts."""
    both = counts[(counts[:, 0] > 0) & (counts[:, 1] > 0)]
    if not both[:, 2].any():
        return 0.0
    precision, recall = (both[:, 2] / both[:, 0]).mean(), (both[:, 2] / both[:, 1]).mean()
    return float((1 + beta**2) * precision * recall / (beta**2 * precision + recall))


def rouge(hypotheses: Sequence[str], references: References) -> dict[str, float]:
    """ROUGE-1, -2 and -L (Lin 2004): the mean F1 of common words, pairs of words, and the longest common subsequence.

    As the rouge-score package computes them, without stemming: words are runs of a-z and 0-9 of the lower-case text; of
    several references the best counts, for each measure on its own. -> {"rouge1": ..., "rouge2": ..., "rougeL": ...}
    """
    scores = [rouge_scores(hypothesis, group) for hypothesis, group in paired(hypotheses, references)]
    return {name: sum(one[name] for one in scores) / max(len(scores), 1) for name in ("rouge1", "rouge2", "rougeL")}


def rouge_scores(hypothesis: str, references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, -2 and -L of one text, each with the best of its references."""
    words, others, scores = rouge_words(hypothesis), [rouge_words(text) for text in references], {}
    for order in (1, 2):
        ours, theirs = ngrams(words, order), [ngrams(other, order) for other in others]
        scores[f"rouge{order}"] = max(f_score(overlap(ours, t), ours.total(), t.total()) for t in theirs)
    scores["rougeL"] = max(f_score(common_length(words, other), len(words), len(other)) for other in others)
    return scores


def rouge_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table at once in the bits of an integer (Hyyro 2004).

    Bit i of `row` is 0 where the length grows at a[i]; adding lets a match move to the last 1 of its run.
    """
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    full = row = (1 << len(a)) - 1
    for word in b:
        match = row & where.get(word, 0)
        row = (row + match | row - match) & full
    return len(a) - row.bit_count()


# What they share -------------------------------------------------------------------------------------------------------


def paired(texts: Sequence[str], references: References) -> Iterable[tuple[str, Sequence[str]]]:
    """(text, its references) for each text."""
    if isinstance(texts, str) or isinstance(references, str):
        raise TypeError("texts and references are lists: put a single one into brackets")
    if len(texts) != len(references):
        raise ValueError(f"there are {len(texts)} texts and references for {len(references)}")
    for text, reference in zip(texts, references):
        group = [reference] if isinstance(reference, str) else list(reference)
        if not group:
            raise ValueError(f"there is no reference for {text!r}")
        yield text, group


def ngrams(items: Sequence[str], n: int) -> Counter:
    """How often each n items in a row occur; of a string, n characters."""
    if isinstance(items, str):
        return Counter(items[i : i + n] for i in range(len(items) - n + 1))
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def overlap(a: Counter, b: Counter) -> int:
    """How many things both have, each as often as in both."""
    return sum(min(count, b[thing]) for thing, count in a.items() if thing in b)


def f_score(both: int, ours: int, theirs: int) -> float:
    """2 P R / (P + R) with P = both / ours, R = both / theirs."""
    return 2 * both / (ours + theirs) if both else 0.0
