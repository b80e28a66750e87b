"""What Python's library says of its best-known functions and classes, one sentence each, and dialogues made of that."""

import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from .dialogues import Dialogue, exchange
from .order import shuffled

MODULES = (
    "builtins", "argparse", "array", "base64", "bisect", "calendar", "cmath", "collections", "contextlib", "copy",
    "csv", "dataclasses", "datetime", "difflib", "fnmatch", "fractions", "functools", "glob", "gzip", "hashlib",
    "heapq", "html", "inspect", "io", "itertools", "json", "logging", "math", "operator", "os", "os.path", "pathlib",
    "pickle", "platform", "pprint", "queue", "random", "re", "secrets", "shlex", "shutil", "socket", "sqlite3",
    "statistics", "string", "struct", "subprocess", "sys", "tempfile", "textwrap", "threading", "time", "traceback",
    "unicodedata", "urllib.parse", "urllib.request", "uuid", "warnings", "weakref", "zipfile", "zlib",
)  # fmt: skip
TYPES = (str, bytes, list, tuple, dict, set, int, float)  # whose methods people ask about
SHORTEST, LONGEST = 12, 160  # characters of an answer
SIGNATURE = re.compile(r"[\w.]+\(.*\)\s*(?:->\s*(.*))?")  # a line such as "D.keys() -> a set-like object"
SENTENCE = re.compile(r"[A-Z].*?(?<!\.\w)(?:\.(?= |$)|$)")  # "e.g." and "i.e." do not end it
NO_ANSWER = re.compile(r"->|:$")  # a signature, or the line before an example

QUESTIONS = (
    "What does {} do?", "What is {}?", "Explain {}.", "Tell me about {}.", "What does {}() do?", "How does {} work?", "{}",
    "what does {} do", "what is {}", "explain {}",
)  # fmt: skip
GREETINGS = (
    ("Hello", "Hello! Ask me what something in Python's standard library does."),
    ("Hi", "Hi! What would you like to know about Python?"),
    ("Good morning", "Good morning! What are you looking for?"),
    ("How are you?", "Fine, thank you. Ask me about a function of Python."),
    ("Who are you?", "I am a very small language model, trained on what Python says about itself."),
    ("What can you do?", "I can explain in one sentence what a function or a class of Python's library does."),
    ("Thank you", "You are welcome."),
    ("Thanks", "You are welcome."),
    ("Goodbye", "Goodbye!"),
    ("Bye", "Goodbye!"),
)
GREETED = 20  # questions to each greeting
LONGEST_DIALOGUE = 4  # exchanges: about what the context of a small model holds


def library_dialogues() -> list[Dialogue]:
    """Questions about well-known functions and classes, in several wordings, with their answers, and a few greetings.

    Each wording of each question occurs once. A dialogue has one to LONGEST_DIALOGUE exchanges, so that a model learns to
    answer the last question and not the first.
    """
    asked = [(question.format(name), answer) for name, answer in explanations().items() for question in QUESTIONS]
    greeted = [GREETINGS[i % len(GREETINGS)] for i in range(len(asked) // GREETED)]
    ordered = [*asked, *greeted]
    mixed = iter(shuffled(np.arange(len(ordered)), len(ordered), key=0).tolist())
    dialogues: list[Dialogue] = []
    while chosen := list(itertools.islice(mixed, len(dialogues) % LONGEST_DIALOGUE + 1)):
        dialogues.append([message for i in chosen for message in exchange(*ordered[i])])
    return dialogues


def explanations() -> dict[str, str]:
    """The name of each function or class ("len", "str.split", "os.path.join") -> the first sentence of its documentation.

    MODULES are imported; one that this Python does not have is left out.
    """
    found = {name: explanation(thing) for name, thing in _named()}
    return {name: sentence for name, sentence in found.items() if sentence}


def explanation(thing: Any) -> str:
    """The first sentence of a documentation string, without the signatures before it; "" if there is none."""
    lines = [line.strip() for line in inspect.cleandoc(thing.__doc__ or "").split("\n")]
    results = [found[1] for line in lines if (found := SIGNATURE.fullmatch(line)) and found[1]]
    text = "\n".join("" if SIGNATURE.fullmatch(line) else line for line in lines)
    for paragraph in [*re.split(r"\n\n+", text), *(result[:1].upper() + result[1:] for result in results)]:
        found = SENTENCE.match(" ".join(paragraph.split()))
        sentence = found[0].rstrip(".") if found else ""
        if (
            SHORTEST <= len(sentence) <= LONGEST
            and sentence.count(" ") >= 2
            and "->" not in sentence
            and sentence[-1] != ":"
        ):
            return sentence + "."
    return ""


def _named() -> Iterator[tuple[str, Any]]:
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue  # not on this platform
        prefix = "" if module_name == "builtins" else f"{module_name}."
        for name in sorted(getattr(module, "__all__", None) or _own(module)):
            yield from _one(prefix + name, getattr(module, name, None))
    for cls in TYPES:
        for name, method in sorted(vars(cls).items()):
            yield from _one(f"{cls.__name__}.{name}", method)


def _own(module: Any) -> list[str]:
    """The names that a module without `__all__` defines, or takes from its part in C."""
    own = {module.__name__, "_" + module.__name__, None}
    if module.__name__ == "builtins":
        own |= {"io", "_io"}  # open
    return [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") in own]


def _one(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """The pair, if it is something that people call, and no exception."""
    is_error = isinstance(thing, type) and issubclass(thing, BaseException)
    if callable(thing) and not is_error and not name.rpartition(".")[2].startswith("_"):
        yield name, thing
