"""Questions whose answers stand in a paragraph: SQuAD's JSON (Rajpurkar et al. 2016, 2018), and windows of tokens."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..tokenizers.base import Tokenizer
from ..tokenizers.wordpiece import WordPieceTokenizer
from .encoder_rows import EncoderRow
from .files import DataError
from .json_rows import entries
from .reading import UTF8, read_file
from .towns import towns

TOWNS = "towns"  # the name of the questions that come with tinyllm


@dataclass(frozen=True)
class Question:
    """A question on a paragraph; each answer that counts as right, and where it begins in the context (characters).
    No answers: it has none, or nobody knows them."""

    id: str
    question: str
    context: str
    answers: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Window(EncoderRow):
    """[CLS] question [SEP] a part of the context [SEP]. number: of the question; first, end: where the part stands among
    the tokens; offsets (end - first, 2): where each of its tokens stands in the context (characters).

    target (2,): the first and the last token of the answer, or 0, 0, the place of [CLS], where it is not in this part.
    """

    number: int
    first: int
    end: int
    offsets: np.ndarray


def read_squad(path: str | Path, encoding: str = UTF8) -> list[Question]:
    """The questions of a file in SQuAD's JSON, of version 1.1 or 2.0; or of "towns", those that come with tinyllm.

    A list or JSON lines of {"id", "question", "context", "answers": {"text": [...], "answer_start": [...]}}, as Hugging
    Face's data sets have them, is read too. Raises DataError, which names the file and the question, if it is of another
    kind, or if an answer is not where answer_start says.
    """
    if path == TOWNS:
        return _questions(towns(), TOWNS)
    text = read_file(path, encoding, f"give a file in SQuAD's JSON, or {TOWNS}")
    found = entries(text, str(path))
    if len(found) == 1 and not (isinstance(found[0][0], dict) and "context" in found[0][0]):
        return _questions(found[0][0], str(path))
    data = {"data": [{"paragraphs": [_paragraph(entry, f"{path}, {place}") for entry, place in found]}]}
    return _questions(data, str(path))


def _paragraph(entry: Any, where: str) -> dict[str, Any]:
    """A question with its context, as SQuAD's files hold it."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("question", "context")):
        raise DataError(f"{where}: it should have the texts question and context, and is {str(entry)[:60]}")
    answers = entry.get("answers") or {"text": [], "answer_start": []}
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise DataError(f"{where}: its answers should have two lists of one length, text and answer_start")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]
    asked = {"id": entry.get("id", where), "question": entry["question"], "answers": answers}
    return {"context": entry["context"], "qas": [asked]}


def _questions(data: Any, name: str) -> list[Question]:
    found = []
    try:
        for article in data["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    found.append(_question(asked, paragraph["context"], name))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name} is not in SQuAD's form, data > paragraphs > qas: {error!r} is missing or wrong") from None
    if not found:
        raise DataError(f"{name} holds no question")
    if len({question.id for question in found}) < len(found):
        raise DataError(f"{name}: two questions have the same id")
    return found


def _question(asked: dict[str, Any], context: str, name: str) -> Question:
    if not isinstance(context, str) or not isinstance(asked["question"], str):
        raise DataError(f"{name}, question {asked['id']}: its question and its context should be texts")
    answers = [] if asked.get("is_impossible") else asked.get("answers", [])
    for answer in answers:
        start, text = answer["answer_start"], answer["text"]
        if not isinstance(text, str) or not isinstance(start, int) or start < 0:
            raise DataError(f"{name}, question {asked['id']}: an answer has a text and the place where it starts, from 0")
        if context[start : start + len(text)] != text:
            raise DataError(f"{name}, question {asked['id']}: its answer {text!r} is not at answer_start {start}")
    texts, starts = (tuple(answer[key] for answer in answers) for key in ("text", "answer_start"))
    return Question(str(asked["id"]), asked["question"], context, texts, starts)


def fingerprint(questions: Sequence[Question]) -> str:
    """The same for the same questions."""
    return hashlib.sha256(repr(questions).encode("utf-8")).hexdigest()


def windows(
    tokenizer: Tokenizer, questions: Iterable[Question], length: int = 384, stride: int = 128, longest_question: int = 64
) -> list[Window]:
    """Every question with its context in windows of at most `length` tokens, each `stride` tokens further on than the last.

    A longer question is cut. The first answer is the target (Devlin et al. 2019, section 4.2). DataError where nothing of
    the context would fit in.
    """
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise DataError(f"answers are mapped back to the text by WordPiece tokenizers, not by {type(tokenizer).__name__}")
    if stride < 1:
        raise DataError(f"stride must be at least 1, and is {stride}")
    made: list[Window] = []
    encoded: dict[str, tuple[list[int], np.ndarray]] = {}
    for number, one in enumerate(questions):
        if one.context not in encoded:
            ids, places = tokenizer.encode_with_offsets(one.context, allow_special=False)
            encoded = {one.context: (ids, np.array(places, np.int64).reshape(-1, 2))}  # of neighbours with one context
        ids, offsets = encoded[one.context]
        question = tokenizer.encode(one.question, allow_special=False)[:longest_question]
        around = len(tokenizer.wrap(question, [])[0])
        room = length - around
        if room < 1 or not ids:
            raise DataError(
                f"question {one.id}: its context has no tokens" if room > 0
                else f"a window of {length} tokens has no room for a context behind a question of {len(question)}"
            )  # fmt: skip
        span = _span(one, offsets)
        begin = 0
        while True:
            made.append(_window(tokenizer, number, question, ids, offsets, begin, begin + room, span))
            if begin + room >= len(ids):
                break
            begin += min(stride, room)
    return made


def _span(question: Question, offsets: np.ndarray) -> tuple[int, int] | None:
    """The first and the last token of the first answer, among those of the context."""
    if not question.answers or not question.answers[0]:
        return None
    start, end = question.starts[0], question.starts[0] + len(question.answers[0])
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _window(
    tokenizer: Tokenizer, number: int, question: list[int], ids: list[int], offsets: np.ndarray, begin: int, end: int,
    span: tuple[int, int] | None,
) -> Window:  # fmt: skip
    end = min(end, len(ids))
    tokens, types = tokenizer.wrap(question, ids[begin:end])
    first = _place_of_second(tokenizer, question)
    inside = span is not None and begin <= span[0] and span[1] < end
    target = [first + span[0] - begin, first + span[1] - begin] if inside and span is not None else [0, 0]
    part = offsets[begin:end]
    return Window(np.array(tokens), np.array(types), np.array(target), number, first, first + end - begin, part)


def _place_of_second(tokenizer: Tokenizer, question: list[int]) -> int:
    """Where the second text's tokens begin in a pair."""
    return tokenizer.wrap([0] * len(question), [-1])[0].index(-1)
