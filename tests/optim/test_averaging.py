"""The mean of the weights: right values, the weights put back bit for bit, on every kind of array, and in a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from cupy_on_cpu import cupy_on_cpu  # noqa: F401  # a fixture
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import small

from tinyllm.checkpoints import lora, native
from tinyllm.checkpoints.files import CheckpointError
from tinyllm.kernels.device import device_of, to_device, to_host
from tinyllm.optim import Adam, Average, ExponentialAverage, LastAverage, average_named
from tinyllm.optim.averaging import parsed


def walk(model, steps, seed=0):
    """The weights of a model that goes on at random, after each step."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        model.flat.data += random.standard_normal(model.flat.size)
        model.flat.changed()
        yield model.flat.data.copy()


@given(st.floats(0, 0.9999), st.integers(1, 12))
def test_the_exponential_mean_weighs_each_step_by_the_decay(decay, steps):
    model = small()
    average, seen = ExponentialAverage(model, decay), []
    for weights in walk(model, steps):
        seen.append(weights)
        average.after_step()
    shares = decay ** np.arange(steps - 1, -1, -1.0)  # 0^0 is 1
    np.testing.assert_allclose(average.mean(), np.average(seen, axis=0, weights=shares), rtol=1e-9, atol=1e-9)


def test_the_exponential_mean_is_that_of_pytorch_corrected_at_its_beginning():
    """torch begins with the first weights at full weight. From zero on, and divided by what is missing, it is ours."""
    torch = pytest.importorskip("torch", reason="the peer")
    swa = pytest.importorskip("torch.optim.swa_utils", reason="the peer")
    model, decay = small(), 0.7
    theirs = torch.nn.Linear(model.flat.size, 1, bias=False, dtype=torch.float64)
    theirs.weight.data.zero_()
    peer = swa.AveragedModel(theirs, multi_avg_fn=swa.get_ema_multi_avg_fn(decay))
    peer.update_parameters(theirs)  # begins with zeros
    average = ExponentialAverage(model, decay)
    for step, weights in enumerate(walk(model, 6), 1):
        average.after_step()
        theirs.weight.data[0] = torch.from_numpy(weights)
        peer.update_parameters(theirs)
        expected = peer.module.weight.detach().numpy()[0] / (1 - decay**step)
        np.testing.assert_allclose(average.mean(), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 5), st.integers(1, 9))
def test_the_mean_of_the_last_evaluations(size, evaluations):
    model = small()
    average, seen = LastAverage(model, size), []
    average.at_evaluation(0)  # nothing is learned yet
    assert average.count == 0 and average.mean() is model.flat.data
    for i, weights in enumerate(walk(model, evaluations), 1):
        seen.append(weights)
        average.at_evaluation(10 * i)
        average.at_evaluation(10 * i)  # it was interrupted, and is made again
    np.testing.assert_allclose(average.mean(), np.mean(seen[-size:], axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["none", "ema:0.9", "last:2"])
def test_weights_come_back_bit_for_bit_and_blocks_may_be_nested(name):
    model = small("float32")
    average = average_named(name, model)
    for step, _ in enumerate(walk(model, 5), 1):
        average.after_step()
        average.at_evaluation(step)
    before, mean, version = model.flat.data.copy(), average.mean().copy(), model.flat.version
    array = model.flat.data
    with average.applied():
        with average.applied():
            np.testing.assert_array_equal(model.flat.data, mean)
        np.testing.assert_array_equal(model.flat.data, mean)  # and not before the outer block ends
    np.testing.assert_array_equal(model.flat.data, before)
    assert model.flat.data is array  # the optimizer's
    assert (name == "none") == np.array_equal(before, mean) == (model.flat.version == version)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    np.testing.assert_array_equal(model.flat.data, before)


def test_the_trained_part_of_a_model_with_adapters_is_averaged():
    model = small("float32")
    lora.add(model, lora.LoRAConfig(2, 4.0))
    base = model.base.data.copy()
    average = average_named("ema:0.5", model)
    for _ in walk(model, 3):
        average.after_step()
    assert average.mean().size == model.flat.size < base.size
    names = [p.name for p in model.parameters() if p.trained]
    assert set(average.arrays()) == {f"{kind}.{name}" for kind in ("raw", "average") for name in names}
    with average.applied():
        np.testing.assert_array_equal(model.base.data, base)


@pytest.mark.parametrize("name", ["ema:0.9", "last:3"])
def test_a_checkpoint_holds_it_bit_for_bit(name, tmp_path):
    def steps(model, optimizer, average, numbers):
        for step in numbers:
            model.flat.grad[...] = np.random.default_rng(step).standard_normal(model.flat.size)
            optimizer.step()
            average.after_step()
            if step % 2 == 0:
                average.at_evaluation(step)

    def made():
        model = small("float32")
        return model, Adam(model, lr=0.1), average_named(name, model)

    whole, cut, again = made(), made(), made()
    steps(*whole, range(1, 10))
    steps(*cut, range(1, 6))
    with cut[2].applied():  # a run saves in the middle of an evaluation
        native.write_training(tmp_path, cut[1], STATE, cut[2])
    native.read_training(tmp_path, again[1], again[2])
    steps(*again, range(6, 10))
    np.testing.assert_array_equal(again[0].flat.data, whole[0].flat.data)
    np.testing.assert_array_equal(again[2].mean(), whole[2].mean())
    assert again[2].count == whole[2].count

    other = made()[0]
    native.read_training(tmp_path, Adam(other), Average(other))  # averaged no longer: the weights themselves
    np.testing.assert_array_equal(other.flat.data, cut[0].flat.data)
    (tmp_path / "average.safetensors").unlink()
    with pytest.raises(CheckpointError, match="average.safetensors is missing"):
        native.read_training(tmp_path, again[1], again[2])


@pytest.mark.usefixtures("cupy_on_cpu")
@pytest.mark.parametrize("name", ["ema:0.9", "last:3"])
def test_arrays_of_cupy_give_the_same_numbers(name, tmp_path):
    host, gpu = small("float32"), small("float32").to("cuda")
    averages = [average_named(name, model) for model in (host, gpu)]
    for step, weights in enumerate(walk(host, 7), 1):
        gpu.flat.data[...] = to_device(weights, gpu.flat.data)
        for average in averages:
            average.after_step()
            average.at_evaluation(step)
    assert device_of(averages[1].mean()) == "cuda"
    np.testing.assert_allclose(to_host(averages[1].mean()), averages[0].mean(), rtol=1e-6, atol=1e-7)
    with averages[1].applied():
        np.testing.assert_array_equal(to_host(gpu.flat.data), to_host(averages[1].mean()))
        native.write_training(tmp_path, Adam(gpu), STATE, averages[1])
    again = small("float32").to("cuda")
    native.read_training(tmp_path, Adam(again), filled := average_named(name, again))
    np.testing.assert_array_equal(to_host(again.flat.data), host.flat.data)
    np.testing.assert_array_equal(to_host(filled.mean()), to_host(averages[1].mean()))


STATE = {
    "step": 5, "tokens": 0, "seconds": 0.0, "evaluated": True, "best_step": None, "best": None, "waited": 0, "random": {},
    "data": {}, "fingerprint": "", "lines": 0,
}  # fmt: skip


def test_names():
    assert parsed("none") == ("none", 0) and parsed("ema:0.999") == ("ema", 0.999) and parsed("last:5") == ("last", 5)
    assert average_named("ema:0.9999999", small()).name == "ema:0.9999999"
    for name in ("", *"ema ema: ema:1 ema:-0.1 ema:x ema:nan last last:0 last:2.5 last:-1 last:x none:1 other".split()):
        with pytest.raises(ValueError, match="give ema:DECAY"):
            parsed(name)
