"""Generation: rows of tokens that grow, one token a step, and texts that grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ..models.model import LanguageModel, Model
from ..tokenizers import StreamDecoder, Tokenizer
from ..tokenizers.files import TokenizerError
from .beams import beam_search
from .options import require, require_whole
from .sampling import Sampler
from .sessions import Session, left_padded, start
from .speculative import grow_assisted

OnToken = Callable[[int, int], Any]  # (row, token) -> whether the row ends with it


def generate(
    model: Model,
    tokens: Any,
    max_new_tokens: int = 100,
    attention_mask: Any = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    seed: int | None = None,
    eos_id: int | Iterable[int] | None = None,
    pad_id: int | None = None,
    use_cache: bool = True,
    past_limit: str = "slide",
    on_token: OnToken | None = None,
    assistant_model: Model | None = None,
    num_assistant_tokens: int = 4,
    suppress_tokens: Sequence[int] = (),
) -> np.ndarray:
    """Continues each row of tokens (B, T) by at most max_new_tokens -> ints (B, T + new), the prompts included.

    attention_mask (B, T): false at padding, which is not part of a row; rows of different lengths are padded on the left.
    Each row gives what it gives alone. An encoder-decoder reads tokens (B, S) as its source and gives the target, its first
    token included.

    temperature, top_k, top_p, min_p, repetition_penalty, no_repeat_ngram_size: as sampling.Sampler says.
    num_beams: above 1, beam search instead, with length_penalty and early_stopping as beams.beam_search says.
    seed: the same seed, the same draws; a row's own depend on its place in the batch. None: new ones each time.
    eos_id: the tokens that end a row (None: the model's own; (): none). `new` is as long as the longest continuation; rows
    that ended earlier are filled with pad_id (None: the model's own, else the first eos_id, else 0).
    use_cache: False computes every row anew for each token, which gives the same.
    past_limit: what happens when a row reaches the model's longest sequence. "slide": the model goes on with the row's last
    tokens alone, between half of its limit and all of it; "error": a ValueError, before anything is computed.
    on_token: called with (row, token) for each new token; where it returns true, the row ends. Not with beams.
    assistant_model: a smaller model of the same tokenizer that guesses num_assistant_tokens ahead (speculative.py): the same
    greedy tokens, and draws of the same distribution, sooner where reading the model's weights is what takes the time.
    suppress_tokens: tokens that are never generated.

    Dropout is off, whatever the model's mode. ValueError for an option out of its range. FloatingPointError, which names the
    first layer whose output is not finite, if the logits have NaN or no largest number.
    """
    require_whole("num_beams", num_beams, 1)
    sampler = Sampler(temperature, top_k, top_p, min_p, repetition_penalty, no_repeat_ngram_size)
    ends = end_tokens(model, eos_id)
    padding = pad_token(model, pad_id, ends)
    begun, session = start(model, tokens, attention_mask, max_new_tokens, use_cache, past_limit, suppress_tokens)
    if num_beams > 1:
        if assistant_model is not None:
            raise ValueError("an assistant guesses the next token, and no beams: choose one of them")
        if temperature or on_token:
            raise ValueError("beam search looks for the likeliest text: it goes with temperature=0 and without on_token")
        new = beam_search(session, sampler, max_new_tokens, ends, num_beams, length_penalty, early_stopping)
    else:
        new = [[] for _ in begun]
        grown = growth(session, sampler, max_new_tokens, ends, seed, on_token, assistant_model, num_assistant_tokens)
        for row, token in grown:
            new[row].append(token)
    result = np.full((len(begun), begun.shape[1] + max(map(len, new), default=0)), padding, np.int64)
    result[:, : begun.shape[1]] = begun
    for row, tokens_of_row in zip(result, new):
        row[begun.shape[1] :][: len(tokens_of_row)] = tokens_of_row
    return result


def growth(
    session: Session,
    sampler: Sampler,
    max_new_tokens: int,
    ends: Sequence[int],
    seed: int | None,
    on_token: OnToken | None,
    assistant: Any,
    num_assistant_tokens: int,
) -> Iterator[tuple[int, int]]:
    """(row, token) for each new token, with an assistant or without."""
    if seed is not None:
        require_whole("seed", seed, 0, "a whole number, 0 or more, or None")
    if assistant is None:
        return grow(session, sampler, max_new_tokens, ends, seed, on_token)
    if not session.use_cache:
        raise ValueError("an assistant needs the cache: leave use_cache=True")
    rows, model, options = session.rows, session.model, (num_assistant_tokens, on_token, session.suppressed)
    return grow_assisted(model, assistant, rows, sampler, max_new_tokens, ends, seed, *options)


def grow(
    session: Session,
    sampler: Sampler,
    max_new_tokens: int,
    ends: Sequence[int],
    seed: int | None,
    on_token: OnToken | None = None,
) -> Iterator[tuple[int, int]]:
    """(row, token) for each new token of each row, step by step; a row that has ended is dropped."""
    alive = list(range(len(session.rows)))
    randoms = [np.random.default_rng(None if seed is None else [seed, row]) for row in alive]
    for _ in range(max_new_tokens if alive else 0):
        logits = session.logits()  # (R, V)
        tokens = [sampler.choose(logits[i], session.rows[i], randoms[row]) for i, row in enumerate(alive)]
        session.append(tokens)
        going = []
        for i, (row, token) in enumerate(zip(alive, tokens)):
            yield row, token
            stopped = on_token is not None and on_token(row, token)
            if not stopped and token not in ends:
                going.append(i)
        if not going:
            return
        if len(going) < len(alive):
            session.select(going)
            alive = [alive[i] for i in going]


def end_tokens(model: Model, eos_id: int | Iterable[int] | None, tokenizer: Tokenizer | None = None) -> list[int]:
    """The tokens that end a row: those given, else the model's own, else the tokenizer's."""
    if eos_id is None:
        eos_id = getattr(model.config, "eos_token_id", None)
    if eos_id is None and tokenizer is not None:
        eos_id = tokenizer.eos_id
    if eos_id is None:
        return []
    ends = list(eos_id) if isinstance(eos_id, Iterable) else [eos_id]
    for id in ends:
        require(isinstance(id, Integral), "eos_id", id, "a whole number, or several")
    return [int(id) for id in ends]


def pad_token(model: Model, pad_id: int | None, ends: Sequence[int]) -> int:
    """What fills rows that have ended: what is given, else the model's own, else the first of the ends, else 0.

    ValueError if what is given is not in the vocabulary. The model's own may be -1 in old configurations, for none.
    """
    V, own = model.config.vocab_size, getattr(model.config, "pad_token_id", None)
    if pad_id is not None:
        require_whole("pad_id", pad_id, 0, wanted := f"a token of the vocabulary, from 0 to {V - 1}, or None")
        require(pad_id < V, "pad_id", pad_id, wanted)
        return pad_id
    return next(id for id in (own, *ends, 0) if id is not None and 0 <= id < V)


def tokens_without_text(model: Model, tokenizer: Tokenizer, ends: Sequence[int]) -> list[int]:
    """Ids of the model's vocabulary that the tokenizer lacks, but for the ends: nothing that is written may hold them."""
    return [id for id in tokenizer.lacking(model.config.vocab_size) if id not in ends]


# Texts -----------------------------------------------------------------------------------------------------------------


class Writer:
    """The text of a row's new tokens, as they come. It ends before the first of the strings `stop`, or with an end token.

    before: the tokens that the text goes on with: a character, or the space before a word, may depend on them.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], stop: Sequence[str], ends: Sequence[int]):
        if isinstance(stop, str) or not all(stop):
            raise ValueError(f"stop is {stop!r}, and must be a list of strings, none of them empty")
        self.decoder = StreamDecoder(tokenizer, skip_special_tokens=True)
        for token in before:
            self.decoder.feed(token)
        self.stop, self.ends = stop, ends
        self.held = ""  # what may turn out to be the beginning of a stop string
        self.done = False

    def feed(self, token: int) -> str:
        """The text that is certain with this token."""
        if self.done:
            return ""
        if token in self.ends:
            return self.finish()
        self.held += self.decoder.feed(token)
        found = [place for stop in self.stop if (place := self.held.find(stop)) >= 0]
        self.done = bool(found)
        certain = min(found, default=len(self.held) - max((_begun(self.held, stop) for stop in self.stop), default=0))
        text, self.held = self.held[:certain], self.held[certain:]
        return text

    def finish(self) -> str:
        """The rest of the text."""
        rest = "" if self.done else self.held + self.decoder.finish()
        self.done = True
        return rest


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of a stop string."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def stream(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    max_new_tokens: int = 100,
    stop: Sequence[str] = (),
    seed: int | None = None,
    eos_id: int | Iterable[int] | None = None,
    use_cache: bool = True,
    past_limit: str = "slide",
    assistant_model: Model | None = None,
    num_assistant_tokens: int = 4,
    suppress_tokens: Sequence[int] = (),
    **sampling: Any,
) -> Iterator[str]:
    """What the model writes behind a prompt (a text, or its tokens), piece by piece as it comes.

    stop: strings before which the text ends. The rest as of `generate`; sampling: the fields of sampling.Sampler.
    Tokens that the tokenizer does not have, such as those that fill up a model's vocabulary, are never written.
    """
    row = prompt_ids(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)
    ends = end_tokens(model, eos_id, tokenizer)
    writer = Writer(tokenizer, row if isinstance(model, LanguageModel) else [], stop, ends)
    sampler = Sampler(**sampling)
    never = [*suppress_tokens, *tokens_without_text(model, tokenizer, ends)]
    _, session = start(model, [row], None, max_new_tokens, use_cache, past_limit, never)
    grown = growth(session, sampler, max_new_tokens, ends, seed, None, assistant_model, num_assistant_tokens)
    for _, token in grown:
        if text := writer.feed(token):
            yield text
        if writer.done:
            return
    yield writer.finish()


def complete(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    max_new_tokens: int = 100,
    stop: Sequence[str] = (),
    **options: Any,
) -> list[str]:
    """What the model writes behind each prompt. The prompts, of any lengths, are computed as one batch.

    stop: strings before which a text ends. options: those of `generate`.
    Tokens that the tokenizer does not have, such as those that fill up a model's vocabulary, are never written.
    """
    if isinstance(prompts, str):
        raise TypeError("complete takes a list of prompts: put a single one into brackets")
    if not prompts:
        return []
    rows = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    ends = end_tokens(model, options.pop("eos_id", None), tokenizer)
    options["suppress_tokens"] = [*options.pop("suppress_tokens", ()), *tokens_without_text(model, tokenizer, ends)]
    reads_on = isinstance(model, LanguageModel)  # an encoder-decoder answers the prompt
    writers = [Writer(tokenizer, row if reads_on else [], stop, ends) for row in rows]
    texts = [""] * len(rows)

    def on_token(row: int, token: int) -> bool:
        texts[row] += writers[row].feed(token)
        return writers[row].done

    tokens, mask = left_padded(rows)
    if options.get("num_beams", 1) == 1:
        generate(model, tokens, max_new_tokens, mask, eos_id=ends, on_token=on_token, **options)
    else:
        result = generate(model, tokens, max_new_tokens, mask, eos_id=ends, **options)
        for row, new in enumerate(result[:, tokens.shape[1] if reads_on else 1 :].tolist()):
            any(on_token(row, token) for token in new)
    return [text + writer.finish() for text, writer in zip(texts, writers)]


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt, the model's own around it. An empty one is the token that begins texts, or a line end, or what
    the vocabulary begins with if it has none of these."""
    if ids := tokenizer.encode(prompt, add_special_tokens=True) if prompt else []:
        return ids
    begin = next((id for id in (tokenizer.bos_id, tokenizer.eos_id) if id is not None), None)
    if begin is not None:
        return [begin]
    try:
        return tokenizer.encode("\n")
    except TokenizerError:  # characters of a text without line ends
        return [0]
