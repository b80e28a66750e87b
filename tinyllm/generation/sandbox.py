"""Chat templates: Jinja as transformers runs it, within limits, because a template is a program that a stranger wrote.

It runs in Jinja's sandbox, which hides Python's internals. A render that computes longer than SECONDS, makes a value of more
than VALUE characters, or more than TOTAL characters in all, is stopped. A character counts 1, each item of a list 1 and what
is in it. `range` gives at most 100,000 numbers, and the template itself has at most SOURCE characters.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

SECONDS = 2.0  # of this thread's processor
VALUE = 4_000_000
TOTAL = 100_000_000
SOURCE = 500_000
DIGITS = 10_000  # bits of a whole number


class TemplateLimit(jinja2.TemplateError):
    """A template asked for more than the limits allow."""


class Watch:
    """What one render has used of its limits."""

    def __init__(self) -> None:
        self.end = time.thread_time() + SECONDS
        self.left = TOTAL

    def tick(self) -> None:
        if time.thread_time() > self.end:
            raise TemplateLimit(f"it computes longer than {SECONDS:g} seconds")

    def afford(self, size: int) -> None:
        """Raise before an operation whose result may have `size` characters."""
        self.tick()
        if size > TOTAL:
            raise TemplateLimit(f"an operation may make {size:,} characters, and {TOTAL:,} are the limit")

    def made(self, value: Any) -> Any:
        """A value that the template has made, if it is within the limits."""
        self.tick()
        size = weight(value)
        self.left -= size
        if size > VALUE or self.left < 0:
            raise TemplateLimit(f"it makes a value of more than {VALUE:,} characters, or more than {TOTAL:,} in all")
        return value


WATCH: ContextVar[Watch] = ContextVar("watch")


def weight(value: Any) -> int:
    """The characters of a value and of all that is in it, counted until they are too many."""
    size, waiting = 0, [value]
    while waiting and size <= VALUE:
        value = waiting.pop()
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            size += 1 if value.bit_length() <= DIGITS else VALUE + 1
        elif isinstance(value, Mapping):
            size += len(value)
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            size += len(value)
            waiting += value
    return size


def growth(base: Any, arguments: Iterable[Any]) -> int:
    """The most characters that a method or filter can make of `base` with these arguments."""
    factors = (abs(value) if isinstance(value, int) else weight(value) for value in arguments)
    return max(weight(base), 1) * (1 + sum(factors))


def widths(format: Any) -> int:
    """The characters that the numbers in a format string may ask for."""
    return sum(min(int(number[:12]), 10**12) for number in re.findall(r"\d+", format)) if isinstance(format, str) else 0


# The environment ----------------------------------------------------------------------------------------------------


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with a look at the limits at each operation that can make much of little."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        watch = WATCH.get()
        if operator == "%" and isinstance(left, str):
            stars = [right] if "*" in left else []
            watch.afford(growth(left, [right, *stars]) + widths(left) + (10**12 if stars else 0))
        elif operator == "*":
            sequence, times = (right, left) if isinstance(left, int) else (left, right)
            if isinstance(times, int) and not isinstance(sequence, int | float):
                watch.afford(max(weight(sequence), 1) * max(times, 1))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            watch.afford(TOTAL + 1 if left.bit_length() * abs(right) > DIGITS else 1)
        return watch.made(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        base = getattr(getattr(obj, "__wrapped__", obj), "__self__", "")  # of a method such as ' '.join
        base = base if isinstance(base, str | list | tuple | dict) else ""
        wide = widths(base) if getattr(obj, "__name__", "").startswith("format") else 0
        args = tuple(map(listed, args))
        WATCH.get().afford(growth(base, [*args, *kwargs.values()]) + wide)
        return WATCH.get().made(super().call(context, obj, *args, **kwargs))


def listed(value: Any) -> Any:
    """What a filter gives item by item, as a list, so that it can be weighed."""
    return list(each(value)) if isinstance(value, GeneratorType) else value


def each(values: Iterable[Any]) -> Iterator[Any]:
    """The items of a loop, which looks at the clock before each."""
    watch = WATCH.get()
    for value in values:
        watch.tick()
        yield value


def made(value: Any) -> Any:
    """A value that the template writes out: a list, or strings put together."""
    return WATCH.get().made(value)


def limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter within the limits."""

    @functools.wraps(function)
    def filter(*args: Any, **kwargs: Any) -> Any:
        args = tuple(map(listed, args))
        first = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja's own argument is before the value
        value, others = (args[first] if len(args) > first else ""), args[first + 1 :]
        wide = widths(value) if name == "format" else 0
        WATCH.get().afford(growth(value, [*others, *kwargs.values()]) + wide)
        return WATCH.get().made(function(*args, **kwargs))

    return filter


class Guard(NodeTransformer):
    """Puts `each` around what a loop goes through, and `made` around lists, joined strings and what a variable is set to."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = around(node.iter, "each")
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Assign:
        self.generic_visit(node)
        node.node = around(node.node, "made")
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.AssignBlock:
        self.generic_visit(node)
        node.filter = around(node.filter, "made", node.lineno)
        return node

    def visit_made(self, node: Any) -> Any:
        self.generic_visit(node)
        return around(node, "made") if getattr(node, "ctx", "load") == "load" else node

    visit_Concat = visit_List = visit_Tuple = visit_Dict = visit_made


def around(node: Any, name: str, line: int | None = None) -> Any:
    """The expression with a filter applied to it; None stands for the text of a block."""
    return nodes.Filter(node, name, [], [], None, None).set_lineno(line or node.lineno)


class Generation(Extension):
    """{% generation %}: marks what the assistant has said. It changes nothing in the text."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("said"), [], [], body).set_lineno(line)

    def said(self, caller: Callable[[], str]) -> str:
        return caller()


def raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def strftime_now(format: str) -> str:
    return datetime.datetime.now().strftime(format)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@functools.cache
def environment() -> Sandbox:
    """Jinja with the settings, the functions and the filters that transformers gives it."""
    made_here = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # what is constant is computed in a render too, where the limits hold
        extensions=[Generation, "jinja2.ext.loopcontrols"],
    )
    made_here.filters["tojson"] = tojson
    made_here.filters = {name: limited(name, function) for name, function in made_here.filters.items()}
    made_here.filters |= {"each": each, "made": made}
    made_here.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    del made_here.globals["lipsum"]
    return made_here


# Templates ----------------------------------------------------------------------------------------------------------


class ChatTemplate:
    """A compiled chat template. ValueError: it is no Jinja, or longer than SOURCE."""

    def __init__(self, source: str):
        if len(source) > SOURCE:
            raise ValueError(f"the checkpoint's chat template has {len(source):,} characters; the limit is {SOURCE:,}")
        try:
            tree = Guard().visit(environment().parse(source))
            code = environment().compile(tree, filename="<chat template>")
            self.template = jinja2.Template.from_code(environment(), code, environment().make_globals(None))
            constants = (node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))
            self.literals = "\0".join([*(node.data for node in tree.find_all(nodes.TemplateData)), *constants])
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"the checkpoint's chat template is no valid Jinja ({error}, line {error.lineno})") from None
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise ValueError(f"the checkpoint's chat template is nested too deeply for Python ({error})") from None

    def render(self, **variables: Any) -> str:
        """The text. ValueError: the template refuses the dialogue, or goes beyond the limits."""
        watch = Watch()
        token = WATCH.set(watch)
        try:
            pieces: list[str] = []
            for piece in self.template.generate(**variables):
                pieces.append(watch.made(piece))
            return watch.made("".join(pieces))
        except TemplateLimit as error:
            raise ValueError(
                f"the checkpoint's chat template is stopped: {error}. Give tokenizer.chat_template another template"
            ) from None
        except Exception as error:  # whatever a stranger's program can raise
            message = str(error) or type(error).__name__
            raise ValueError(f"the checkpoint's chat template does not take this dialogue: {message}") from None
        finally:
            WATCH.reset(token)
