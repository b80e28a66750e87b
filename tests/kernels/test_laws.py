"""The laws of the contract that can be read off the code: each backward below its forward, docstrings that are true.

A docstring of the reference set gives the shapes of a call as in "x (N, C), w (C,), b (C,) or None -> y (N, C)". Here every
op is called with real arrays, and all shapes of one call must fit one choice of numbers for the letters. It also names
equations of the pages, as in "gpt.md (10)" or "gpt.md (6), (7)".
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import accumulators, backward, cotangents, forward, function, parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import OPS, calls

from tinyllm import kernels

FOLDER = Path(inspect.getfile(kernels)).parent
PAGES = Path(__file__).resolve().parents[2] / "blogs"
RNG = np.random.default_rng(3)

# Each backward directly below its forward ------------------------------------------------------------------------------


def misplaced(code: str) -> list[str]:
    """The forwards that are not directly above their backward."""
    names = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    following = dict(zip(names, [*names[1:], ""]))
    forwards = [name for name in names if f"{name.removesuffix('_forward')}_backward" in names and name.endswith("_forward")]
    return [name for name in forwards if following[name] != name.replace("_forward", "_backward")]


@pytest.mark.parametrize("file", [f"{name}/{file}.py" for name in kernels.SETS for file in kernels.OPS])
def test_a_backward_is_directly_below_its_forward(file):
    assert not misplaced((FOLDER / file).read_text(encoding="utf-8"))


def test_a_function_in_between_is_found():
    code = "def f_forward(): pass\n{}def f_backward(): pass\n"
    assert not misplaced(code.format("")) and misplaced(code.format("def helper(): pass\n")) == ["f_forward"]


# The reference set is short and plain ----------------------------------------------------------------------------------


def reference_files() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((FOLDER / "reference").glob("*.py"))}


def test_the_reference_set_is_there_to_be_read():
    files = reference_files()
    assert sum(code.count("\n") for code in files.values()) <= 800
    for name, code in files.items():
        assert not re.search(r"chunk|fused|bfloat16|bf16|out=", code, re.IGNORECASE), name


def test_every_function_of_the_reference_set_has_type_hints_and_a_docstring():
    for file, code in reference_files().items():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.args, *node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
                untyped = [argument.arg for argument in arguments if argument.annotation is None]
                assert not untyped and node.returns is not None, f"{file}: {node.name} {untyped}"
                assert ast.get_docstring(node), f"{file}: {node.name}"


# Equations exist -------------------------------------------------------------------------------------------------------

REFERENCE = re.compile(r"(\w+)\.md((?:,? \(\d+\))+)")


def equations(docstring: str) -> list[tuple[str, str]]:
    """The (page, number) of each equation that a docstring names."""
    return [(page, number) for page, all_of in REFERENCE.findall(docstring) for number in re.findall(r"\d+", all_of)]


def test_equations_are_read():
    assert equations("y = x w: gpt.md (6), (11), t5.md (2).") == [("gpt", "6"), ("gpt", "11"), ("t5", "2")]


@pytest.mark.parametrize("op", kernels.FILE_OF)
def test_the_equations_of_an_op_are_in_the_pages(op):
    named = equations(inspect.getdoc(function(op, "reference")) or "")
    assert named or kernels.FILE_OF[op] == "memory", f"{op} names no equation"
    missing = [
        (page, number) for page, number in named
        if f"\\tag{{{number}}}" not in (PAGES / f"{page}.md").read_text(encoding="utf-8")
    ]  # fmt: skip
    assert not missing


# Shapes are true -------------------------------------------------------------------------------------------------------

SHAPE = r"\([^()]*\)"
NAME = r"[a-z]\w*'?"
ITEM = re.compile(rf"({NAME}(?:, {NAME})*) ((?:{SHAPE}|None)(?:(?:,| or|, or) (?:{SHAPE}|None))*)( broadcast)?")
Shapes = dict[str, tuple[list[str], bool]]  # by name: the alternatives, and whether it is broadcast to the first


def shapes_of(text: str) -> Shapes:
    """What a part of a docstring says, by name; None among the alternatives is left out."""
    found: Shapes = {}
    for names, alternatives, broadcast in ITEM.findall(text):
        for name in names.split(", "):
            found[name] = re.findall(SHAPE, alternatives), bool(broadcast)
    return found


def signature(docstring: str) -> tuple[Shapes, Shapes]:
    """The shapes of arguments and of results. ValueError if the docstring has none."""
    before, arrow, after = " ".join(docstring.split()).partition("-> ")
    if not arrow:
        raise ValueError("no shapes: the docstring has no '->'")
    arguments = shapes_of(re.split(r"[.:] +", before)[-1])  # the sentence before the arrow
    return arguments, {} if after.startswith("None") else shapes_of(re.split(r"\.(?: |$)", after)[0])


class Letters:
    """The sizes of one call: a letter is bound by the first shape that has it alone."""

    def __init__(self, **known: Any):
        self.known: dict[str, Any] = known
        self.later: list[tuple[str, str, Any]] = []

    def fit(self, name: str, alternatives: list[str], shape: tuple[int, ...]) -> None:
        """Binds letters so that one of the alternatives is this shape; ValueError if none can be."""
        before = dict(self.known), list(self.later)
        errors = []
        for alternative in alternatives:
            try:
                return self.bind(name, alternative, shape)
            except ValueError as error:
                errors.append(str(error))
                self.known, self.later = dict(before[0]), list(before[1])
        raise ValueError("; ".join(errors) or f"{name} has no shape")

    def bind(self, name: str, alternative: str, shape: tuple[int, ...]) -> None:
        dims = [dim.strip() for dim in alternative.strip("()").split(",") if dim.strip()]
        if dims and dims[0].startswith("*"):
            dims = [str(n) for n in self.known[dims[0][1:]]] + dims[1:]
        if dims and dims[0] in ("N", "..."):  # any leading axes
            rest = len(dims) - 1
            if len(shape) < rest:
                raise ValueError(f"{name} {shape} is not {alternative}")
            sizes = [shape[: len(shape) - rest], *shape[len(shape) - rest :]]
        else:
            sizes = list(shape)
        if len(dims) != len(sizes):
            raise ValueError(f"{name} {shape} is not {alternative}")
        for dim, n in zip(dims, sizes):
            if dim.isdigit() and int(dim) != n:
                raise ValueError(f"{name} {shape} is not {alternative}")
            if not re.fullmatch(r"[A-Za-z_]\w*|\.\.\.", dim):
                self.later.append((f"{name} {shape} is not {alternative}", dim, n))
            elif self.known.setdefault(dim, n) != n:
                raise ValueError(f"{name} {shape} is not {alternative}: {dim} is {self.known[dim]}")

    def done(self) -> None:
        """Checks what needs other letters: 2F, D/2."""
        for message, dim, n in self.later:
            expression = re.sub(r"(\d)([A-Z])", r"\1*\2", dim).replace("/", "//")
            if eval(expression, {}, self.known) != n:
                raise ValueError(f"{message}: {dim} is {eval(expression, {}, self.known)}")


def check(docstring: str, arguments: dict[str, Any], result: Any) -> None:
    """ValueError if the docstring does not give the shapes of this call: arguments by name, and what came back."""
    inputs, outputs = signature(docstring)
    letters, later = Letters(**{n: a for n, a in arguments.items() if n in ("T", "S", "C", "shape")}), []
    for name, a in arguments.items():
        if isinstance(a, np.ndarray):
            if name not in inputs:
                raise ValueError(f"{name} {a.shape} is not in the docstring")
            alternatives, broadcast = inputs[name]
            if broadcast:
                later.append((name, alternatives[0], a.shape))
            else:
                letters.fit(name, alternatives, a.shape)
    results = () if result is None else result if isinstance(result, tuple) else (result,)
    if len(results) != len(outputs):
        raise ValueError(f"{len(results)} results came back, and the docstring has {list(outputs)}")
    for (name, (alternatives, _)), a in zip(outputs.items(), results):
        letters.fit(name, alternatives, () if isinstance(a, float) else a.shape)
    letters.done()
    for name, _, shape in later:  # broadcasting to the first argument changes nothing of its shape
        first = next(a for a in arguments.values() if isinstance(a, np.ndarray))
        if np.broadcast_shapes(shape, first.shape) != first.shape:
            raise ValueError(f"{name} {shape} cannot be broadcast to {first.shape}")


def checked(op: str, arguments: dict[str, Any]) -> Any:
    """Calls the op by names, checks its docstring and returns what it gives."""
    op_function = function(op, "reference")
    result = op_function(**arguments)
    check(op_function.__doc__ or "", arguments, result)
    return result


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=max(10, settings.default.max_examples // 2))
@given(st.data())
def test_shapes_in_docstrings_are_true(op, data):
    d, arguments = data.draw(calls(op, tiny=True))
    checked(f"{op}_forward", arguments)
    outputs = forward(op, "reference", arguments)
    known = {**arguments, **outputs, **cotangents(op, d, outputs, some=True), **accumulators(op, d, arguments)[0]}
    checked(f"{op}_backward", {name: known[name] for name in parameters(f"{op}_backward") if name in known})
    assert backward(op, "reference", arguments, outputs, known) is not None


X, ROOM = RNG.standard_normal((6, 40)), RNG.standard_normal((2, 3, 9, 2, 4))
CODES, SCALES = function("quantize", "reference")(X, 4)
M1, M2 = np.zeros((2, 6, 40))
OTHER_CALLS: dict[str, dict[str, Any]] = {
    "add": {"x": X, "f": X},
    "attention_step": {"q": ROOM[0, :, :2], "keys": ROOM[0], "values": ROOM[1], "end": np.array([5])},
    "adam_step": {"w": X.copy(), "dw": X, "m1": M1, "m2": M2, "step": 1, "lr": 0.1},
    "adafactor_step": {"w": X.copy(), "dw": X, "m2": (np.zeros(6), np.zeros(40)), "step": 1, "lr": 0.1},
    "global_norm": {"dw": X.reshape(-1)},
    "scale": {"dw": X.reshape(-1).copy(), "factor": 0.5},
    "clear": {"dw": X.reshape(-1).copy()},
    "quantize": {"w": X, "bits": 4},
    "dequantize": {"codes": CODES, "scales": SCALES, "C": 40},
    "dequantize_rows": {"index": np.array([[3, 0], [1, 1]]), "codes": CODES, "scales": SCALES, "C": 40},
    "quantized_linear_forward": {"x": X, "codes": CODES, "scales": SCALES, "b": X[:, 0]},
    "quantized_linear_backward": {"dy": X[:, :6], "x": X, "codes": CODES, "scales": SCALES, "db": X[0, :6].copy()},
    "append": {"k": ROOM[0, :, :2], "v": ROOM[1, :, :2], "keys": ROOM[0] + 0, "values": ROOM[1] + 0, "end": np.array([4])},
    "relative_bias_last": {"w": RNG.standard_normal((8, 3)), "end": np.array([4]), "S": 9},
    "empty": {"like": X, "shape": (3, 2)},
    "zeros": {"like": X, "shape": (4, 1, 2)},
}  # fmt: skip


@pytest.mark.parametrize("op", OTHER_CALLS)
def test_shapes_in_docstrings_of_other_ops_are_true(op):
    checked(op, OTHER_CALLS[op])


def test_shapes_in_the_docstring_of_join_heads_are_true():
    join = function("join_heads", "reference")
    part, joined = ROOM[0], join(ROOM[0], ROOM[1])
    check(join.__doc__, {"part": part}, join(part))
    assert joined.shape == (*part.shape[:2], 2 * part.shape[2], part.shape[3])


def test_every_op_is_called():
    called = {f"{op}_{way}" for op in OPS for way in ("forward", "backward")} | set(OTHER_CALLS) | {"join_heads"}
    assert called == set(kernels.FILE_OF)


@pytest.mark.parametrize(
    ("docstring", "wrong"),
    [
        ("y = x w.  x (N, C), w (F, C), b (F,) or None -> y (N, F).", None),
        ("y = x w.  x (N, C), w (C, F), b (F,) or None -> y (N, F).", "w (2, 3) is not (C, F)"),
        ("y = x w.  x (N, C), w (F, C), b (F,) or None -> y (N, C).", "y (5, 2) is not (N, C)"),
        ("y = x w.  x (N, 2F), w (F, C), b (F,) or None -> y (N, F).", "x (5, 3) is not (N, 2F)"),
        ("y = x w.  x (N, C), w (F, C) -> y (N, F).", "b (2,) is not in the docstring"),
        ("y = x w.  x (N, C), w (F, C), b (F,) or None -> y (N, F), z (N, F).", "1 results"),
        ("y = x w.  x (C, N), w (F, C), b (F,) or None -> y (N, F).", "x (5, 3) is not (C, N)|w (2, 3)"),
        ("y = x w^T + b.", "no shapes"),
    ],
)
def test_a_wrong_shape_is_found(docstring, wrong):
    arguments = {"x": np.zeros((5, 3)), "w": np.zeros((2, 3)), "b": np.zeros(2)}
    if wrong is None:
        check(docstring, arguments, np.zeros((5, 2)))
        return
    with pytest.raises(ValueError, match="|".join(map(re.escape, wrong.split("|")))):
        check(docstring, arguments, np.zeros((5, 2)))
