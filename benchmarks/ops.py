"""Each op of the cpu set beside PyTorch's and NumPy's, on the sizes of nanoGPT's baby model; results checked to be equal.

python benchmarks/ops.py
python benchmarks/ops.py layernorm gelu --rounds 9

NumPy is the reference set: the formula as one writes it down. PyTorch's backward is autograd's, of the same op.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import harness
import numpy as np
from harness import Comparison, Contender, console

B, T, C, H, V = 12, 256, 384, 6, 65
N, F, D = B * T, 4 * C, C // H
FLAT = 10_000_000  # parameters that the optimizer steps
TURN = 0.1  # seconds of repetitions in a turn, about
AGAINST = {"NumPy": "numpy_calls", "PyTorch": "torch_calls"}

Shapes = dict[str, tuple[int, ...]]
Call = Callable[..., Any]


@dataclass
class Op:
    """An op's arrays by name, then how it is called, with k a kernel set, t PyTorch, a the arrays, y the outputs.

    A call returns its outputs, a backward its gradients, in an order that all agree on. No backward: there is none, or
    `theirs` does it itself.
    """

    shapes: Shapes
    ours: Call  # k, a -> outputs
    theirs: Call  # t, a -> the output that has a gradient
    backward: Call | None = None  # k, a, outputs -> gradients
    wanted: str = "x"  # by which PyTorch computes gradients
    output: int = 0  # which of our outputs is theirs
    random: bool = False  # results differ


def layer_norm(t: Any, a: Any) -> Any:
    return t.nn.functional.layer_norm(a.x + a.r, (C,), a.w, a.b)


def normalised_backward(k: Any, a: Any, outputs: Any) -> Any:
    s, _, mean, rstd = outputs
    return k.add_layernorm_backward(a.dy, None, s, a.w, mean, rstd, a.dw, a.db)


def activation(name: str, theirs: Call) -> Op:
    return Op(
        {"x": (N, F), "dy": (N, F)},
        lambda k, a: k.activation_forward(a.x, name),
        theirs,
        lambda k, a, _: k.activation_backward(a.dy, a.x, name),
    )


def gated(t: Any, a: Any) -> Any:
    gate, up = a.x.chunk(2, dim=-1)
    return t.nn.functional.silu(gate) * up


def attend(t: Any, a: Any) -> Any:
    q, k, v = (x.transpose(1, 2) for x in (a.q, a.k, a.v))
    return t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def attend_backward(k: Any, a: Any, outputs: Any) -> Any:
    return k.attention_backward(a.dy, a.q, a.k, a.v, *outputs, causal=True)


def project(t: Any, a: Any) -> Any:
    return t.nn.functional.cross_entropy(t.nn.functional.linear(a.x, a.w), a.targets)


def projected(n: int, classes: int) -> Op:
    return Op(
        {"x": (n, C), "w": (classes, C), "targets": (n,)},
        lambda k, a: k.linear_cross_entropy_forward(a.x, a.w, None, a.targets),
        project,
        lambda k, a, y: k.linear_cross_entropy_backward(1.0, a.x, a.w, None, a.targets, *y[1:], a.dw),
    )


def adam(k: Any, a: Any) -> Any:
    factor = 1 / max(1.0, k.global_norm(a.g))
    k.adam_step(a.p, a.g, a.m, a.v, 1, 1e-3, 0.9, 0.99, 1e-8, 0.1, factor)
    return a.p


def torch_adam(t: Any, a: Any) -> Any:
    if not hasattr(a, "optimizer"):
        a.p.grad = a.g
        a.optimizer = t.optim.AdamW([a.p], 1e-3, (0.9, 0.99), 1e-8, 0.1, fused=True)
    with t.no_grad():
        t.nn.utils.clip_grad_norm_([a.p], 1.0)
        a.optimizer.step()
    return a.p


HEADS: Shapes = dict.fromkeys(("q", "k", "v", "dy"), (B, T, H, D))
OPS = {
    "layernorm": Op(
        {"x": (N, C), "r": (N, C), "w": (C,), "b": (C,), "dy": (N, C)},
        lambda k, a: k.add_layernorm_forward(a.x, a.r, a.w, a.b),
        layer_norm, normalised_backward, "x w b", output=1,
    ),
    "rmsnorm": Op(
        {"x": (N, C), "w": (C,), "dy": (N, C)},
        lambda k, a: k.rmsnorm_forward(a.x, a.w),
        lambda t, a: t.nn.functional.rms_norm(a.x, (C,), a.w, 1e-6),
        lambda k, a, y: k.rmsnorm_backward(a.dy, a.x, a.w, y[1], a.dw), "x w",
    ),
    "gelu": activation("gelu", lambda t, a: t.nn.functional.gelu(a.x)),
    "gelu_tanh": activation("gelu_tanh", lambda t, a: t.nn.functional.gelu(a.x, approximate="tanh")),
    "relu": activation("relu", lambda t, a: t.nn.functional.relu(a.x)),
    "silu": activation("silu", lambda t, a: t.nn.functional.silu(a.x)),
    "swiglu": Op(
        {"x": (N, 2 * 1024), "dy": (N, 1024)},
        lambda k, a: k.gated_forward(a.x, "silu"), gated,
        lambda k, a, _: k.gated_backward(a.dy, a.x, "silu"),
    ),
    "softmax": Op(
        {"x": (H, N, T), "dy": (H, N, T)},
        lambda k, a: k.softmax_forward(a.x),
        lambda t, a: t.softmax(a.x, -1),
        lambda k, a, y: k.softmax_backward(a.dy, y[0]),
    ),
    "attention": Op(
        HEADS, lambda k, a: k.attention_forward(a.q, a.k, a.v, causal=True), attend, attend_backward, "q k v"
    ),
    "embedding": Op(
        {"tokens": (N,), "w": (V, C), "dy": (N, C)},
        lambda k, a: k.embedding_forward(a.tokens, a.w),
        lambda t, a: t.nn.functional.embedding(a.tokens, a.w),
        lambda k, a, _: k.embedding_backward(a.dy, a.tokens, a.dw), "w",
    ),
    "position": Op(
        {"x": (B, T, C), "w": (T, C), "dy": (B, T, C)},
        lambda k, a: k.position_forward(a.x, a.w, np.arange(T)),
        lambda t, a: a.x + t.nn.functional.embedding(t.arange(T), a.w),
    ),
    "dropout": Op(
        {"x": (N, C), "dy": (N, C)},
        lambda k, a: k.dropout_forward(a.x, 0.1, 7),
        lambda t, a: t.nn.functional.dropout(a.x, 0.1),
        lambda k, a, _: k.dropout_backward(a.dy, 0.1, 7), random=True,
    ),
    "linear": Op(
        {"x": (N, C), "w": (F, C), "b": (F,), "dy": (N, F)},
        lambda k, a: k.linear_forward(a.x, a.w, a.b),
        lambda t, a: t.nn.functional.linear(a.x, a.w, a.b),
        lambda k, a, _: k.linear_backward(a.dy, a.x, a.w, a.dw, a.db), "x w b",
    ),
    "linear_gelu": Op(
        {"x": (N, C), "w": (F, C), "b": (F,), "dy": (N, F)},
        lambda k, a: k.linear_activation_forward(a.x, a.w, a.b, "gelu_tanh"),
        lambda t, a: t.nn.functional.gelu(t.nn.functional.linear(a.x, a.w, a.b), approximate="tanh"),
        lambda k, a, y: k.linear_activation_backward(a.dy, a.x, a.w, y[1], a.dw, a.db, "gelu_tanh"), "x w b",
    ),
    "cross_entropy": projected(N, V),
    "cross_entropy_50k": projected(T, 50257),
    "adam": Op({"p": (FLAT,), "g": (FLAT,), "m": (FLAT,), "v": (FLAT,)}, adam, torch_adam, random=True),  # changes p
}  # fmt: skip


# The contenders --------------------------------------------------------------------------------------------------------


def arrays(op: Op) -> dict[str, np.ndarray]:
    """The same in each process. What weights' gradients are added into is zero."""
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for name, shape in op.shapes.items():
        if name in ("tokens", "targets"):
            made[name] = rng.integers(0, op.shapes["w"][0], shape)
        else:
            made[name] = rng.standard_normal(shape, np.float32)
    for name in ("m", "v"):
        if op.shapes.get("g"):
            made[name] = np.zeros(FLAT, np.float32)
    return made


def numbers(results: Any) -> list[float]:
    """What must be equal: each result's norm, and that of it times weights that differ from place to place."""
    found = []
    for y in results if isinstance(results, tuple) else (results,):
        y = np.asarray(y, np.float64).reshape(-1)
        found += [float(np.linalg.norm(y)), float(np.linalg.norm(y * np.linspace(1, 2, y.size)))]
    return found


def tinyllm_calls(name: str, back: bool, threads: int, kernel_set: str = "cpu") -> Iterator[dict[str, Any]]:
    from tinyllm import kernels

    op = OPS[name]
    made = arrays(op)
    sums = {f"d{n}": np.zeros(op.shapes[n], np.float32) for n in "wb" if n in op.shapes}
    a = SimpleNamespace(**made, **sums)
    with kernels.use(kernel_set):
        outputs = op.ours(kernels, a)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if not back:
            yield from turns(lambda: op.ours(kernels, a), [] if op.random else numbers(outputs[op.output]))
            return
        assert op.backward
        returned = op.backward(kernels, a, outputs)
        gradients = {"x": returned, **dict(zip("qkv", returned if isinstance(returned, tuple) else ()))}
        gradients.update({n[1:]: np.copy(s) for n, s in sums.items()})
        found = numbers(tuple(gradients[n] for n in op.wanted.split()))
        yield from turns(lambda: op.backward(kernels, a, outputs), [] if op.random else found)  # type: ignore[misc]


def numpy_calls(name: str, back: bool, threads: int) -> Iterator[dict[str, Any]]:
    return tinyllm_calls(name, back, threads, "reference")


def torch_calls(name: str, back: bool, threads: int) -> Iterator[dict[str, Any]]:
    import torch

    torch.set_num_threads(threads)
    op = OPS[name]
    a = SimpleNamespace(**{n: torch.from_numpy(made) for n, made in arrays(op).items()})
    wanted = [getattr(a, n).requires_grad_() for n in op.wanted.split() if n in op.shapes]
    y = op.theirs(torch, a)
    if not back:
        yield from turns(lambda: op.theirs(torch, a), [] if op.random else numbers(y.detach().numpy()))
        return
    dy = getattr(a, "dy", None)

    def gradients() -> Any:
        return torch.autograd.grad(y, wanted, dy, retain_graph=True)

    found = numbers(tuple(g.numpy() for g in gradients()))
    yield from turns(gradients, [] if op.random else found)


def turns(call: Callable[[], Any], result: list[float]) -> Iterator[dict[str, Any]]:
    """The seconds of each call, as many calls as fill a turn."""
    yield {"result": result}
    while True:
        seconds: list[float] = []
        while len(seconds) < 3 or sum(seconds) < TURN:
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        yield {"seconds": seconds}


# The comparison --------------------------------------------------------------------------------------------------------


def compare(name: str, back: bool, args: Any) -> Comparison:
    options = {"name": name, "back": back}
    contenders = [Contender("tinyllm", "ops:tinyllm_calls", options)]
    contenders += [Contender(peer, f"ops:{AGAINST[peer]}", options) for peer in args.against]
    title = f"{name} {'backward' if back else 'forward'}"
    return harness.compare(title, contenders, args.threads, args.rounds, args.max_foreign)


def show(results: list[Comparison], peers: list[str]) -> None:
    table = harness.new_table("op", ["tinyllm", *(f"{peer}, times" for peer in peers), "others' load"])
    for r in (r for r in results if r.rounds):
        ratios = [f"{r.seconds(p) / r.seconds('tinyllm'):.2f}" if p not in r.failed else "-" for p in peers]
        marks = " (disturbed)" if r.disturbed else ""
        table.add_row(r.work, harness.duration(r.seconds("tinyllm")), *ratios, harness.load(r.foreign("tinyllm")) + marks)
    console.print(table)


def main() -> int:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of {', '.join(OPS)} (default: all)")
    parser.add_argument("--against", nargs="*", choices=AGAINST, default=list(AGAINST), help="(default: all)")
    args = parser.parse_args()
    if unknown := [op for op in args.ops if op not in OPS]:
        parser.error(f"there is no op {', '.join(unknown)}; there are {', '.join(OPS)}")
    about = harness.machine(args.threads)
    harness.show_machine(about)
    results = []
    for name in args.ops or OPS:
        for back in (False, True) if OPS[name].backward else (False,):
            results.append(compare(name, back, args))
            harness.show(results[-1])
    show(results, args.against)
    if args.json:
        harness.write_json(args.json, about, [result.to_json() for result in results])
    console.print("times: how many times as long as tinyllm's call theirs takes, by medians; above 1, tinyllm is faster")
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
