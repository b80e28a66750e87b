"""The decoders in examples/one_file are held equal to tinyllm and to finite differences, and each trains for a few steps.

The files import nothing of tinyllm. The tests give both the same weights under Hugging Face's names.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyllm
from tinyllm import huggingface, kernels

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "one_file"
SIZES = {
    "gpt": {"vocab_size": 11, "n_positions": 6, "n_layer": 2, "n_head": 2, "n_embd": 8},
    "opt": {
        "vocab_size": 11, "max_position_embeddings": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8,
        "ffn_dim": 12,
    },
    "llama": {
        "vocab_size": 11, "max_position_embeddings": 6, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16,
        "num_key_value_heads": 2, "intermediate_size": 12,
    },
}  # fmt: skip
MODELS = {
    "gpt": (tinyllm.GPT, tinyllm.GPTConfig),
    "opt": (tinyllm.OPT, tinyllm.OPTConfig),
    "llama": (tinyllm.Llama, tinyllm.LlamaConfig),
}
VARIANTS = [
    pytest.param(name, options, id=f"{name}-{label}")
    for name in SIZES
    for label, options in (("tied", {"tie_word_embeddings": True}), ("untied", {"tie_word_embeddings": False}))
] + [
    pytest.param("llama", {"num_key_value_heads": 1}, id="llama-one key/value head"),
    pytest.param("llama", {"num_key_value_heads": 4, "rope_theta": 100.0}, id="llama-as many as queries"),
    pytest.param("opt", {"ffn_dim": 5, "num_attention_heads": 1}, id="opt-narrow"),
    pytest.param("gpt", {"n_head": 4, "n_layer": 1, "layer_norm_epsilon": 1e-2}, id="gpt-one layer"),
]


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
    random = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.data[...] = random.standard_normal(parameter.data.shape)
    return FILES[name].Config(**sizes), model, huggingface.state_dict(model)


def batch(B: int, T: int, seed: int = 0):
    random = np.random.default_rng(seed)
    return random.integers(0, 11, (2, B, T))


def ignoring(B: int, T: int):
    """A batch in which some targets do not count."""
    tokens, targets = batch(B, T)
    targets[0, ::2] = -100
    return tokens, targets


BATCHES = {
    "whole length": batch(3, 6),
    "shorter": batch(2, 5),
    "one row": batch(1, 4),
    "one token": batch(1, 1),
    "repeated tokens": np.full((2, 2, 6), 7),
    "some ignored": ignoring(2, 6),
    "all but one ignored": (batch(2, 3)[0], np.array([[-100, -100, 4], [-100, -100, -100]])),
    "all ignored": (batch(2, 3)[0], np.full((2, 3), -100)),
}


def assert_equal_gradients(grads: dict, expected: dict, tolerance: float = 1e-12):
    """Each gradient is equal to the expected one: the norm of the difference over the norm of the expected gradient.

    A gradient can be zero but for rounding, as that of a key bias is. So the norm counts as at least 1 % of the norm of all
    gradients together.
    """
    assert set(grads) == set(expected)
    floor = 0.01 * np.sqrt(sum((g**2).sum() for g in expected.values())) or 1.0
    for name, g in expected.items():
        assert grads[name].shape == g.shape, name
        error = np.linalg.norm(grads[name] - g) / max(np.linalg.norm(g), floor)
        assert error < tolerance, (name, error)


@pytest.mark.parametrize("name, options", VARIANTS)
@pytest.mark.parametrize("case", BATCHES)
def test_loss_and_every_gradient_equal_tinyllm(name, options, case):
    config, model, params = pair(name, options)
    tokens, targets = BATCHES[case]
    with kernels.use("reference"):
        expected = model.loss(tokens, targets)
        model.backward()
    loss, kept = FILES[name].forward(params, config, tokens, targets)
    assert abs(loss - expected) <= 1e-12 * max(1.0, abs(expected))
    assert_equal_gradients(FILES[name].backward(params, config, kept), huggingface.state_dict(model, grads=True))


@pytest.mark.parametrize("name", SIZES)
def test_logits_equal_tinyllm(name):
    config, model, params = pair(name, {})
    tokens, _ = BATCHES["shorter"]
    with kernels.use("reference"):
        expected = model(tokens)
    z, _ = FILES[name].logits(params, config, tokens)
    np.testing.assert_allclose(z.reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


def test_a_key_bias_of_opt_has_no_gradient():
    """It adds one number to all scores of a query, and the softmax does not change."""
    config, _, params = pair("opt", {})
    _, kept = FILES["opt"].forward(params, config, *BATCHES["whole length"])
    grads = FILES["opt"].backward(params, config, kept)
    key, query = (grads[f"model.decoder.layers.1.self_attn.{x}_proj.bias"] for x in "kq")
    assert np.abs(key).max() < 1e-12 < np.abs(query).max()


@pytest.mark.parametrize("name, options", VARIANTS)
def test_gradients_equal_finite_differences(name, options, samples=6):
    config, _, params = pair(name, options, seed=1)
    params = {key: w / 2 for key, w in params.items()}  # larger weights bend the loss too much for a difference
    module, (tokens, targets) = FILES[name], BATCHES["some ignored"]
    loss, kept = module.forward(params, config, tokens, targets)
    grads = module.backward(params, config, kept)
    if config.tie_word_embeddings:  # tinyllm writes two copies: the file reads one of them
        table = next(iter(params))
        np.testing.assert_array_equal(grads.pop("lm_head.weight"), grads[table])
    scale = np.sqrt(sum((g**2).sum() for g in grads.values()) / sum(g.size for g in grads.values()))
    random = np.random.default_rng(2)
    for parameter, g in grads.items():
        w = params[parameter]
        for place in random.choice(w.size, min(samples, w.size), replace=False):
            before, losses = w.flat[place], {}
            for h in (1e-5, -1e-5):
                w.flat[place] = before + h
                losses[h], _ = module.forward(params, config, tokens, targets)
            w.flat[place] = before
            difference = (losses[1e-5] - losses[-1e-5]) / 2e-5
            assert abs(g.flat[place] - difference) < 1e-6 * max(abs(difference), scale), (parameter, place)


@pytest.mark.parametrize("name, options", VARIANTS)
def test_fresh_parameters_have_the_names_and_shapes_of_tinyllm(name, options):
    config, model, expected = pair(name, options)
    params = FILES[name].init(config, seed=3)
    assert {key: w.shape for key, w in params.items()} == {key: w.shape for key, w in expected.items()}
    assert all(w.dtype == np.float32 for w in params.values())
    again, other = FILES[name].init(config, seed=3), FILES[name].init(config, seed=4)
    assert all((params[key] == again[key]).all() for key in params)
    assert (params["lm_head.weight"] != other["lm_head.weight"]).all()
    table = next(iter(params))
    assert (params["lm_head.weight"] is params[table]) == config.tie_word_embeddings


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

    loss, kept = module.forward(params, config, *BATCHES["some ignored"])
    grads = module.backward(params, config, kept)
    assert isinstance(loss, float)
    assert len(floats(kept)) > 20 and {array.dtype for array in floats(kept)} == {np.dtype(dtype)}
    assert {g.dtype for g in grads.values()} == {np.dtype(dtype)}
    m = {key: np.zeros_like(w) for key, w in params.items()}
    v = {key: np.zeros_like(w) for key, w in params.items()}
    module.adam(params, grads, m, v, 1, 1e-3)
    assert {array.dtype for state in (params, m, v) for array in state.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", SIZES)
def test_the_inputs_are_not_changed(name):
    config, _, params = pair(name, {})
    tokens, targets = BATCHES["some ignored"]
    before = {key: w.copy() for key, w in params.items()}, tokens.copy(), targets.copy()
    _, kept = FILES[name].forward(params, config, tokens, targets)
    first = FILES[name].backward(params, config, kept)
    second = FILES[name].backward(params, config, kept)  # nothing that was kept is overwritten either
    assert all((first[key] == second[key]).all() for key in first)
    assert all((params[key] == before[0][key]).all() for key in params)
    assert (tokens == before[1]).all() and (targets == before[2]).all()


@pytest.mark.parametrize("name", SIZES)
def test_adam_equals_tinyllm(name):
    config, model, params = pair(name, {})
    module, (tokens, targets) = FILES[name], BATCHES["whole length"]
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    m, v = ({key: np.zeros_like(w) for key, w in params.items() if key not in tied} for _ in "mv")
    optimizer = tinyllm.Adam(model, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    with kernels.use("reference"):
        for step in (1, 2, 3):
            _, kept = module.forward(params, config, tokens, targets)
            module.adam(params, module.backward(params, config, kept), m, v, step, 0.01)
            model.zero_grad()
            model.loss(tokens, targets)
            model.backward()
            assert tinyllm.clip_grad_norm(model, 1.0) > 1.0
            optimizer.step()
    expected = huggingface.state_dict(model)
    for key in m:  # clip_grad_norm divides by the norm + 1e-6, and rounding decides about a key bias
        if not key.endswith("k_proj.bias"):
            np.testing.assert_allclose(params[key], expected[key], rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", SIZES)
def test_training_on_a_text_lowers_the_loss_and_prints_a_sample(name, text, capsys):
    FILES[name].main([str(text), "--steps", "20", "--seed", "1"])
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"^step +\d+  loss (\d+\.\d+)$", printed, re.MULTILINE)]
    assert len(losses) == 2 and losses[1] < losses[0] - 0.5
    sample = re.split(r"step +20 .*\n", printed)[1]
    assert len(sample) == 302  # the first character of the text, 300 more, and the end of the line
    assert set(sample) <= set(text.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SIZES)
def test_a_text_that_cannot_be_used_is_named_in_one_line(name, tmp_path):
    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("too short", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00" * 50)
    for path, words in ((short, "9 characters"), (binary, "Cannot read"), (tmp_path / "none.txt", "Cannot read")):
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
    assert len(options) == 3 and all("." in option and "(default:" in option for option in options)


@pytest.mark.parametrize("name", SIZES)
def test_only_numpy_and_the_standard_library_are_imported(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy"}
