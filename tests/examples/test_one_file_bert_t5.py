"""bert.py and t5.py in examples/one_file are held equal to tinyllm and to finite differences, and each trains a few steps.

The files import nothing of tinyllm. The tests give both the same weights under Hugging Face's names.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyllm
from tinyllm import huggingface, kernels

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "one_file"
V = 11
SIZES = {
    "bert": {
        "vocab_size": V, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
        "max_position_embeddings": 7, "type_vocab_size": 2, "initializer_range": 0.02,
    },
    "t5": {
        "vocab_size": V, "d_model": 8, "d_kv": 3, "d_ff": 12, "num_layers": 2, "num_heads": 2,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 6,
    },
}  # fmt: skip
MODELS = {"bert": (tinyllm.BERT, tinyllm.BERTConfig), "t5": (tinyllm.T5, tinyllm.T5Config)}
VARIANTS = [
    ("bert", {}),
    ("bert", {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 5, "layer_norm_eps": 1e-2}),
    ("bert", {"num_attention_heads": 1, "type_vocab_size": 3}),
    ("t5", {}),
    ("t5", {"num_layers": 1, "num_heads": 3, "d_kv": 5, "d_ff": 7, "layer_norm_epsilon": 1e-2}),
    ("t5", {"num_layers": 3, "relative_attention_num_buckets": 4, "relative_attention_max_distance": 3}),
]
VARIANT = pytest.mark.parametrize("name, options", VARIANTS, ids=["-".join([n, *o]) or n for n, o in VARIANTS])
TIED = {
    "bert": {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    "t5": {"lm_head.weight": "shared.weight"},
}


def load(name: str):
    """The module in examples/one_file/{name}.py, which is not part of a package."""
    spec = importlib.util.spec_from_file_location(f"one_file_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


FILES = {name: load(name) for name in SIZES}


def pair(name: str, options: dict, seed: int = 0):
    """The file's configuration, tinyllm's model in float64 with weights of order one, and its weights by their names."""
    model_class, config_class = MODELS[name]
    sizes = {**SIZES[name], **options}
    model = model_class(config_class(**sizes), dtype="float64")
    model.eval()
    random = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.data[...] = 0.7 * random.standard_normal(parameter.data.shape)
    return FILES[name].Config(**sizes), model, huggingface.state_dict(model)


def bert_batch(B: int, T: int, lengths=None, asked=0.5, seed: int = 0):
    """tokens, targets, token_types, attention_mask; rows shorter than T end in padding, which is token 0."""
    random = np.random.default_rng(seed)
    mask = np.arange(T) < np.array(lengths or [T] * B)[:, None]
    tokens = np.where(mask, random.integers(1, V, (B, T)), 0)
    targets = np.where(mask & (random.random((B, T)) < asked), random.integers(0, V, (B, T)), -100)
    return tokens, targets, np.sort(random.integers(0, 2, (B, T)), 1), mask


def t5_batch(B: int, S: int, T: int, sources=None, targets=None, seed: int = 0):
    """source, target_in, targets, source_mask; rows shorter than S or T end in padding."""
    random = np.random.default_rng(seed)
    mask = np.arange(S) < np.array(sources or [S] * B)[:, None]
    counts = np.arange(T) < np.array(targets or [T] * B)[:, None]
    source = np.where(mask, random.integers(1, V, (B, S)), 0)
    target_in = np.where(counts, random.integers(0, V, (B, T)), 0)
    return source, target_in, np.where(counts, random.integers(0, V, (B, T)), -100), mask


BATCHES = {
    "bert": {
        "whole length": bert_batch(3, 7),
        "padding": bert_batch(3, 6, lengths=[6, 3, 1], asked=0.9),
        "one row": bert_batch(1, 5),
        "one token": bert_batch(1, 1, asked=1.1),
        "repeated tokens": (np.full((2, 6), 4), np.full((2, 6), 5), np.zeros((2, 6), int), np.ones((2, 6), int)),
        "one target": (*bert_batch(1, 4)[:1], np.array([[-100, -100, 3, -100]]), *bert_batch(1, 4)[2:]),
        "all ignored": bert_batch(2, 4, asked=-1),
        "no types, no mask": bert_batch(2, 5)[:2],
    },
    "t5": {
        "whole length": t5_batch(3, 7, 5),
        "padding": t5_batch(3, 6, 5, sources=[6, 2, 1], targets=[3, 5, 1]),
        "one row": t5_batch(1, 4, 6),
        "one token": t5_batch(1, 1, 1),
        "farther than the buckets reach": t5_batch(2, 20, 17),
        "repeated tokens": (np.full((2, 6), 4), np.full((2, 5), 4), np.full((2, 5), 4), np.ones((2, 6), int)),
        "all ignored": t5_batch(2, 3, 4, targets=[0, 0]),
        "no mask": t5_batch(2, 3, 4)[:3],
    },
}
CASES = [pytest.param(name, case, id=f"{name}-{case}") for name in BATCHES for case in BATCHES[name]]


def relative_errors(grads: dict, expected: dict) -> dict[str, float]:
    """The norm of each difference over the norm of the expected gradient.

    The gradient of a key bias is zero but for rounding, because it adds one number to all scores of a query. So the norm
    counts as at least a thousandth of the norm of all gradients together.
    """
    assert set(grads) == set(expected)
    assert all(grads[key].shape == g.shape for key, g in expected.items())
    floor = 1e-3 * np.sqrt(sum((g**2).sum() for g in expected.values())) or 1.0
    return {key: np.linalg.norm(grads[key] - g) / max(np.linalg.norm(g), floor) for key, g in expected.items()}


def of_tinyllm(model, batch):
    """tinyllm's loss and gradients."""
    with kernels.use("reference"):
        loss = model.loss(**model.named(batch))
        model.backward()
    return loss, huggingface.state_dict(model, grads=True)


def of_the_file(name, config, params, batch):
    loss, kept = FILES[name].forward(params, config, *batch)
    return loss, FILES[name].backward(params, config, kept)


@VARIANT
@pytest.mark.parametrize("seed", range(2))
def test_loss_and_every_gradient_equal_tinyllm(name, options, seed):
    config, model, params = pair(name, options, seed)
    for case, batch in BATCHES[name].items():
        model.zero_grad()
        expected, expected_grads = of_tinyllm(model, batch)
        loss, grads = of_the_file(name, config, params, batch)
        assert abs(loss - expected) <= 1e-12 * max(1.0, abs(expected)), case
        errors = relative_errors(grads, expected_grads)
        assert max(errors.values()) < 1e-12, (case, max(errors, key=errors.get), errors)


def test_bert_gives_padding_no_gradient():
    """Whatever token is at a padded position, the gradients are the same."""
    config, _, params = pair("bert", {})
    tokens, targets, types, mask = BATCHES["bert"]["padding"]
    other = np.where(mask, tokens, 9)
    for a, b in zip(
        of_the_file("bert", config, params, (tokens, targets, types, mask))[1].values(),
        of_the_file("bert", config, params, (other, targets, types, mask))[1].values(),
    ):
        np.testing.assert_array_equal(a, b)


def test_buckets_equal_tinyllm_at_every_distance():
    """With T5's own 32 buckets up to distance 128, and sequences longer than that."""
    options = {"num_layers": 1, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
    config, model, params = pair("t5", options)
    batch = t5_batch(1, 150, 150)
    expected, expected_grads = of_tinyllm(model, batch)
    loss, grads = of_the_file("t5", config, params, batch)
    assert abs(loss - expected) < 1e-12 * expected
    errors = relative_errors(grads, expected_grads)
    assert max(errors.values()) < 1e-12, errors


@VARIANT
def test_gradients_equal_finite_differences(name, options, samples=6):
    config, _, params = pair(name, options, seed=1)
    params = {key: w / 1.4 for key, w in params.items() if key not in TIED[name]}  # the forward reads the first names alone
    batch = BATCHES[name]["padding"]
    _, grads = of_the_file(name, config, params, batch)
    for key, first in TIED[name].items():
        np.testing.assert_array_equal(grads.pop(key), grads[first])
    scale = np.sqrt(sum((g**2).sum() for g in grads.values()) / sum(g.size for g in grads.values()))
    random = np.random.default_rng(2)
    for key, g in grads.items():
        w = params[key]
        for place in random.choice(w.size, min(samples, w.size), replace=False):
            before, losses = w.flat[place], []
            for h in (1e-5, -1e-5):
                w.flat[place] = before + h
                losses.append(FILES[name].forward(params, config, *batch)[0])
            w.flat[place] = before
            difference = (losses[0] - losses[1]) / 2e-5
            assert abs(g.flat[place] - difference) < 1e-6 * max(abs(difference), scale), (key, place)


@VARIANT
def test_fresh_parameters_have_the_names_and_shapes_of_tinyllm(name, options):
    config, _, expected = pair(name, options)
    params = FILES[name].init(config, seed=3)
    assert {key: w.shape for key, w in params.items()} == {key: w.shape for key, w in expected.items()}
    assert all(w.dtype == np.float32 for w in params.values())
    again, other = FILES[name].init(config, seed=3), FILES[name].init(config, seed=4)
    assert all((params[key] == again[key]).all() for key in params)
    for key, first in TIED[name].items():
        assert params[key] is params[first] and (key.endswith("bias") or (params[key] != other[key]).all())
    assert FILES[name].TIED == TIED[name]


@pytest.mark.parametrize("name", SIZES)
def test_fresh_parameters_are_as_large_as_tinyllms(name):
    """Means and standard deviations are equal up to chance."""
    model_class, config_class = MODELS[name]
    sizes = {"bert": {"hidden_size": 64, "intermediate_size": 96}, "t5": {"d_model": 64, "d_kv": 16, "d_ff": 96}}[name]
    sizes = {**SIZES[name], **sizes, "vocab_size": 99}
    expected = huggingface.state_dict(model_class(config_class(**sizes)))
    for key, w in FILES[name].init(FILES[name].Config(**sizes), seed=0).items():
        n = expected[key].size
        assert w.std() == pytest.approx(expected[key].std(), rel=float(8 * n**-0.5)), key
        assert w.mean() == pytest.approx(expected[key].mean(), abs=float(8 * n**-0.5 * w.std())), key


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SIZES)
def test_every_array_keeps_the_dtype_of_the_parameters(name, dtype):
    module, config = FILES[name], FILES[name].Config(**SIZES[name])
    params = {key: w.astype(dtype) for key, w in module.init(config, seed=0).items()}

    def floats(kept):
        """All arrays of floating-point numbers in nested tuples and lists."""
        if isinstance(kept, (tuple, list)):
            return [array for part in kept for array in floats(part)]
        return [kept] if isinstance(kept, np.ndarray) and np.issubdtype(kept.dtype, np.floating) else []

    loss, kept = module.forward(params, config, *BATCHES[name]["padding"])
    grads = module.backward(params, config, kept)
    assert isinstance(loss, float)
    assert len(floats(kept)) > 20 and {array.dtype for array in floats(kept)} == {np.dtype(dtype)}
    assert {g.dtype for g in grads.values()} == {np.dtype(dtype)}
    m, v = ({key: np.zeros_like(w) for key, w in params.items() if key not in TIED[name]} for _ in "mv")
    module.adam(params, grads, m, v, 1, 1e-3)
    assert {array.dtype for state in (params, m, v) for array in state.values()} == {np.dtype(dtype)}


def test_float32_is_close_to_float64():
    """Among others, erf and the logarithm of the buckets take float32."""
    for name in SIZES:
        config, _, params = pair(name, {})
        batch = BATCHES[name]["padding"]
        _, expected = of_the_file(name, config, params, batch)
        _, grads = of_the_file(name, config, {key: w.astype(np.float32) for key, w in params.items()}, batch)
        assert max(relative_errors(grads, expected).values()) < 2e-3


@pytest.mark.parametrize("name, case", CASES)
def test_the_inputs_are_not_changed(name, case):
    config, _, params = pair(name, {})
    batch = BATCHES[name][case]
    before = {key: w.copy() for key, w in params.items()}, [array.copy() for array in batch]
    _, kept = FILES[name].forward(params, config, *batch)
    first = FILES[name].backward(params, config, kept)
    second = FILES[name].backward(params, config, kept)  # nothing that was kept is overwritten either
    assert all((first[key] == second[key]).all() for key in first)
    assert all((params[key] == before[0][key]).all() for key in params)
    assert all((now == then).all() for now, then in zip(batch, before[1]))


@pytest.mark.parametrize("name", SIZES)
def test_adam_equals_tinyllm(name):
    config, model, params = pair(name, {})
    batch = BATCHES[name]["whole length"]
    params |= {key: params[first] for key, first in TIED[name].items()}
    m, v = ({key: np.zeros_like(w) for key, w in params.items() if key not in TIED[name]} for _ in "mv")
    optimizer = tinyllm.Adam(model, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    with kernels.use("reference"):
        for step in (1, 2, 3):
            FILES[name].adam(params, of_the_file(name, config, params, batch)[1], m, v, step, 0.01)
            model.zero_grad()
            model.loss(**model.named(batch))
            model.backward()
            tinyllm.clip_grad_norm(model, 1.0)
            optimizer.step()
    for key, expected in huggingface.state_dict(model).items():
        if not key.endswith("key.bias"):  # its gradient is rounding, which Adam turns into steps of full size
            # tinyllm divides by the norm + 1e-6
            np.testing.assert_allclose(params[key], expected, rtol=1e-5, atol=1e-5, err_msg=key)


def test_bert_hides_tokens_as_the_paper_says():
    """15 % are targets; 80 % of them are shown as [MASK], 10 % as a random token, 10 % unchanged."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, 50, (1000, 200))
    shown, targets = FILES["bert"].hide(tokens, 50, random)
    chosen = targets != -100
    assert (targets[chosen] == tokens[chosen]).all() and (shown == tokens)[~chosen].all()
    assert chosen.mean() == pytest.approx(0.15, abs=0.005)
    assert (shown == 50)[chosen].mean() == pytest.approx(0.8, abs=0.01)
    assert (shown == tokens)[chosen].mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.01)


def test_bert_fills_a_gap_with_the_probabilities_of_tinyllm():
    config, model, params = pair("bert", {})
    tokens = np.array([[3, 10, 2, 10, 5]])
    with kernels.use("reference"):
        z = model(tokens)[0, [1, 3]]
    p = FILES["bert"].fill(params, config, tokens, 10)
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(1, keepdims=True), rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_t5_generates_what_tinyllm_does(seed):
    config, model, params = pair("t5", {}, seed)
    source = np.random.default_rng(seed).integers(2, V, 5)
    with kernels.use("reference"):
        expected = tinyllm.generate(model, source[None], max_new_tokens=9)[0].tolist()  # it begins with the start token
    expected = expected[1 : expected.index(1) if 1 in expected else None]
    assert FILES["t5"].generate(params, config, source, 9) == expected


def test_t5_learns_from_padded_batches():
    number = {c: i + 2 for i, c in enumerate("abcdefghij")}
    source, target_in, targets, mask = FILES["t5"].batch(["bad", "cede"], number)
    assert source.tolist() == [[3, 5, 1], [4, 5, 1]] and mask.all()
    assert target_in.tolist() == [[0, 3, 2, 5, 0], [0, 4, 6, 5, 6]]
    assert targets.tolist() == [[3, 2, 5, 1, -100], [4, 6, 5, 6, 1]]


@pytest.mark.parametrize("name", SIZES)
def test_training_on_a_text_lowers_the_loss_and_prints_what_was_learned(name, text, capsys):
    FILES[name].main([str(text), "--steps", "20", "--seed", "1"])
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"^step +\d+  loss (\d+\.\d+)$", printed, re.MULTILINE)]
    assert len(losses) == 2 and losses[1] < losses[0] - 0.3
    lines = printed.split("\n\n")[1].splitlines()[1:]
    assert len(lines) == 8
    for line in lines:
        assert re.search(r"\[MASK\].*% .*\('.+'\)$" if name == "bert" else r" -> .*\(.+\)$", line), line


@pytest.mark.parametrize("name", SIZES)
def test_the_file_runs_as_a_program(name, text):
    command = [sys.executable, str(FOLDER / f"{name}.py"), str(text), "--steps", "1"]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert run.stdout.startswith("step    1  loss ") and not run.stderr


@pytest.mark.parametrize("name", SIZES)
def test_a_text_that_cannot_be_used_is_named_in_one_line(name, tmp_path):
    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("too short", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00" * 50)
    size = "9 characters" if name == "bert" else "2 words"
    for path, words in ((short, size), (binary, "Cannot read"), (tmp_path / "none.txt", "Cannot read")):
        with pytest.raises(SystemExit) as error:
            FILES[name].main([str(path)])
        message = str(error.value)
        assert str(path) in message and words in message and "\n" not in message


@pytest.mark.parametrize("name", SIZES)
def test_help_gives_a_sentence_and_a_default_for_each_option(name, capsys):
    with pytest.raises(SystemExit):
        FILES[name].main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    options = printed.split("options:")[1].split("--")[2:]  # after the list's title and --help
    assert len(options) == 2 and all("." in option and "(default:" in option for option in options)


@pytest.mark.parametrize("name", SIZES)
def test_only_numpy_and_the_standard_library_are_imported(name):
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy"}
