"""Dialogue: its format as tokens, which comes with the tokenizer; examples to learn from; and a conversation with a model.

A dialogue is a list of messages, {"role": "user", "content": "Hello"}; the roles are system, user and assistant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..data.examples import Example
from ..models.model import LanguageModel
from ..tokenizers import Tokenizer
from ..tokenizers.base import ROLES as TOKEN_ROLES
from .decoding import end_tokens, stream
from .typed import Typed, control_tokens, free_mark, normalizer, unmarked

if TYPE_CHECKING:
    from .sandbox import ChatTemplate

Message = Mapping[str, str]
ROLES = ("system", "user", "assistant")

# Our own format: <|user|>Hello<|end|><|assistant|>Hi there<|end|>
END = "<|end|>"
SPECIAL_TOKENS = (*(f"<|{role}|>" for role in ROLES), END)
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class ChatFormat:
    """How a dialogue is written as tokens. `ends`: the tokens that end what the assistant says."""

    ends: list[int]

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    def parts(self, messages: Sequence[Message]) -> Iterator[tuple[list[int], bool]]:
        """The dialogue as (tokens, whether the assistant wrote them), up to its last message at least."""
        raise NotImplementedError

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens behind which the assistant speaks."""
        raise NotImplementedError

    def example(self, messages: Sequence[Message], max_length: int | None = None) -> Example | None:
        """A dialogue to learn from, with the loss on what the assistant says, its end included.

        What is longer than max_length + 1 tokens loses its beginning. None where nothing that could be learned remains (the
        first token is never predicted).
        """
        parts = list(self.parts(checked(messages)))
        tokens = np.array([token for part, _ in parts for token in part], np.int64)
        learned = np.array([learn for part, learn in parts for _ in part], bool)
        keep = slice(None if max_length is None else -(max_length + 1), None)
        return Example(tokens[keep], learned[keep]) if learned[keep][1:].any() else None

    def fitted(self, messages: Sequence[Message], room: int) -> list[int]:
        """The prompt in at most `room` tokens: the oldest turns go first, then the beginning of the last message."""
        kept = list(checked(messages))
        system = int(bool(kept) and kept[0]["role"] == "system")
        while len(ids := self.prompt(kept)) > room:
            turn = next((i for i in range(system + 1, len(kept)) if kept[i]["role"] == "user"), None)
            if turn is not None:
                del kept[system:turn]
                continue
            content = self.tokenizer.encode(kept[-1]["content"], allow_special=False)
            if not content:
                raise ValueError(
                    f"the dialogue's first and last message need {len(ids)} tokens, and there is room for {room}"
                )
            rest = self.tokenizer.decode(content[max(1, len(ids) - room) :]).lstrip("\ufffd")
            kept[-1] = {**kept[-1], "content": rest if len(rest) < len(kept[-1]["content"]) else rest[1:]}
        return ids


class PlainFormat(ChatFormat):
    """Our own format, as TEMPLATE says. What people write is text alone: it cannot spell a token of the format."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__(tokenizer)
        ids = {content: tokenizer.token_to_id(content) for content in SPECIAL_TOKENS}
        if missing := [content for content, id in ids.items() if id is None]:
            raise ValueError(
                f"the tokenizer has tinyllm's chat template, but not its {', '.join(missing)}: call chat.extend"
            )
        self.id = {content: id for content, id in ids.items() if id is not None}
        self.ends = [self.id[END], *self.id.values()]  # who begins to speak for another has ended as well

    def parts(self, messages):
        for message in messages:
            yield [self.id[f"<|{message['role']}|>"]], False
            content = self.tokenizer.encode(message["content"], allow_special=False)
            yield [*content, self.id[END]], message["role"] == "assistant"

    def prompt(self, messages):
        return [token for part, _ in self.parts(messages) for token in part] + [self.id["<|assistant|>"]]


class TemplateFormat(ChatFormat):
    """The format of a checkpoint's chat_template, Jinja as transformers runs it, within the limits of sandbox.py.

    What people write is text alone, as in our own format: a special token that a message spells stays text. So does, except
    in what the assistant says, another added token that the template writes, such as <think>.
    """

    def __init__(self, tokenizer: Tokenizer, template: str):
        super().__init__(tokenizer)
        self.template = compiled(template)
        special, control = control_tokens(tokenizer, self.template.literals)
        self.special, self.control = Typed(special, normalizer(tokenizer)), Typed(control, normalizer(tokenizer))
        self.ends = [*dict.fromkeys([*self._end(), *([] if tokenizer.eos_id is None else [tokenizer.eos_id])])]

    def _end(self) -> list[int]:
        """The special token that the template puts behind what the assistant says, if there is one."""
        probe = "Goodbye"
        text = self.render([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": probe}])
        behind = self.tokenizer.encode(text.rpartition(probe)[2], allow_special=True)[:1]
        return [id for id in behind if id in self.tokenizer.special_tokens.values()]

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The dialogue as text."""
        mark = free_mark(messages)
        return unmarked(self._marked(messages, add_generation_prompt, mark), mark)[0]

    def _marked(self, messages: Sequence[Message], add_generation_prompt: bool, mark: str) -> str:
        """The dialogue as text, with the mark after characters that people typed and that a special token would need."""
        ids = {f"{role}_token": getattr(self.tokenizer, f"{role}_id") for role in TOKEN_ROLES}
        tokens = {name: self.tokenizer.id_to_token(id) for name, id in ids.items() if id is not None}
        return self.template.render(
            messages=[self._typed(message, mark) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **tokens,
        )

    def _typed(self, message: Message, mark: str) -> dict[str, Any]:
        typed = self.special if message["role"] == "assistant" else self.control
        fields = {key: value for key, value in message.items() if value is not None}
        return {key: value if key == "role" else typed.marked(value, mark) for key, value in fields.items()}

    def parts(self, messages):
        done, mark = "", free_mark(messages)
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, after = self._marked(messages[:i], True, mark), self._marked(messages[: i + 1], False, mark)
            if not (before.startswith(done) and after.startswith(before)):
                raise ValueError(
                    "the checkpoint's chat template writes earlier messages anew for later ones, so that what the model is "
                    "to learn cannot be told apart: give it dialogues with one reply, or another template"
                )
            yield self._ids(before[len(done) :], mark), False
            reply = self._ids(after[len(before) :], mark)
            end = next((place + 1 for place, id in enumerate(reply) if id in self.ends), len(reply))
            yield reply[:end], True
            yield reply[end:], False
            done = after

    def prompt(self, messages):
        mark = free_mark(messages)
        return self._ids(self._marked(messages, True, mark), mark)

    def _ids(self, text: str, mark: str) -> list[int]:
        text, typed = unmarked(text, mark)
        return self.tokenizer.encode(text, allow_special=True, typed=typed)


def chat_format(tokenizer: Tokenizer | None, name: str | None = None) -> ChatFormat:
    """The format that comes with a tokenizer; `name`: one of its templates with a name. ValueError where there is none."""
    named = {} if tokenizer is None else tokenizer.named_templates
    if tokenizer is not None and name in (None, "default") and tokenizer.chat_template is not None:
        template = tokenizer.chat_template
    elif tokenizer is not None and name in named:
        template = named[name]
    elif named:
        raise ValueError(
            f"this model has the chat templates {', '.join(sorted(named))}, and no {name or 'default'}: pass the name of "
            "one to chat_format or Chat, or to the option --template"
        )
    else:
        raise ValueError(
            "this model has no chat format: its tokenizer has no chat_template. Use `tinyllm generate`, or fine-tune it on "
            "dialogue: tinyllm finetune KIND --task chat --init MODEL"
        )
    return PlainFormat(tokenizer) if template == TEMPLATE else TemplateFormat(tokenizer, template)


def compiled(template: str) -> ChatTemplate:
    """A Jinja template as transformers compiles it, in the sandbox."""
    try:
        import jinja2  # noqa: F401  here, because it is an extra, chat

        from .sandbox import ChatTemplate
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "this model's chat format is a Jinja template, which needs jinja2: pip install 'tinyllm-numpy[chat]'"
        ) from None
    return ChatTemplate(template)


def checked(messages: Sequence[Message]) -> Sequence[Message]:
    for message in messages:
        if (
            not isinstance(message, Mapping)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise ValueError(f"a message is {{'role': one of {', '.join(ROLES)}, 'content': a text}}, and not {message!r}")
    return messages


def examples(tokenizer: Tokenizer, dialogues: Iterable[Sequence[Message]], max_length: int | None = None) -> list[Example]:
    """Dialogues to learn from, for data.ExampleBatches; those of which nothing to learn remains are left out."""
    format = chat_format(tokenizer)
    return [made for dialogue in dialogues if (made := format.example(dialogue, max_length))]


def extend(model: LanguageModel, tokenizer: Tokenizer) -> LanguageModel:
    """Gives a tokenizer our own chat format -> the model with a row for each of its new tokens.

    The model itself where its vocabulary has room. A new row is the mean of the others: as likely as a token on average.
    """
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.chat_template = TEMPLATE
    V, make = model.config.vocab_size, cast(Any, type(model))
    if tokenizer.vocab_size <= V:
        return model
    larger = make(dataclasses.replace(model.config, vocab_size=tokenizer.vocab_size), seed=None, dtype=str(model.dtype))
    larger.to(model.device)
    for new, old in zip(larger.parameters(), model.parameters()):
        new.data[: len(old.data)] = old.data
        if new.shape != old.shape:
            new.data[V:] = old.data.mean(0)
    return larger


class Chat:
    """A conversation: `reply` to what the user says, turn by turn.

    template: the name of one of the tokenizer's chat templates, if it has several. options: those of generate.stream.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        system: str | None = None,
        template: str | None = None,
        **options: Any,
    ):
        self.format = chat_format(tokenizer, template)
        if not isinstance(model, LanguageModel):
            raise ValueError(f"{type(model).__name__} does not chat: that takes a decoder such as GPT or Llama")
        self.model, self.options = model, options
        self.instruct(system)

    def instruct(self, system: str | None) -> None:
        """Begin again with this system message, or with none."""
        self.system = [{"role": "system", "content": system}] if system else []
        self.reset()

    def reset(self) -> None:
        """Forgets all that was said."""
        self.messages: list[Message] = list(self.system)

    def reply(self, text: str) -> Iterator[str]:
        """What the model answers, piece by piece; where the caller breaks off, what has come so far is its answer."""
        messages = [*self.messages, {"role": "user", "content": text}]
        limit, new = self.model.max_length, self.options.get("max_new_tokens", 100)
        prompt = self.format.fitted(messages, limit - min(new, limit // 2))
        ends = [*self.format.ends, *end_tokens(self.model, None, self.format.tokenizer)]
        said = ""
        try:
            for piece in stream(self.model, self.format.tokenizer, prompt, eos_id=ends, **self.options):
                said += piece
                yield piece
        finally:
            self.messages = [*messages, {"role": "assistant", "content": said}]
