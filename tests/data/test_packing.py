"""Packed rows: all examples, none twice, few rows; and a model's loss and gradient are those of the examples alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data import IGNORED, DataError, Example, ExampleBatches, PackedBatches, pack, packed, padded
from tinyllm.models import GPT, OPT, Llama


def make(count, seed=0, longest=9, vocabulary=13):
    """Examples of random tokens, of which a random part is to be learned, the last one always."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, longest, count)
    return [Example(random.integers(0, vocabulary, n), np.append(random.random(n - 1) < 0.5, True)) for n in lengths]


@given(st.integers(1, 60), st.integers(8, 30), st.integers(0, 5))
def test_every_example_is_in_one_row(count, length, seed):
    examples = make(count, seed)
    packs = pack(examples, length, seed)
    parts = [one.tokens[one.number == i].tolist() for one in packs for i in range(one.number[-1] + 1)]
    assert sorted(parts) == sorted(one.tokens.tolist() for one in examples)
    assert max(len(one.tokens) for one in packs) <= length + 1
    total = sum(len(one.tokens) for one in examples)
    assert len(packs) <= np.ceil(total / (length + 1)) * 11 / 9 + 1


def test_masks_and_positions():
    a, b, c = (Example(np.array(tokens), np.array(tokens) % 2 == 1) for tokens in ([1, 3, 2, 5], [7, 9], [4, 5, 7]))
    tokens, targets, mask, positions = packed(pack([a, b, c], 6))
    assert tokens.tolist() == [[1, 3, 2, 5, 4, 5], [7, 0, 0, 0, 0, 0]]
    assert targets.tolist() == [[3, IGNORED, 5, IGNORED, 5, 7], [9, *[IGNORED] * 5]]
    assert positions.tolist() == [[0, 1, 2, 3, 0, 1], [0, 0, 0, 0, 0, 0]]
    assert mask[0].tolist() == (np.kron(np.eye(2), np.ones((4, 4)))[:6, :6] == 1).tolist()
    assert mask[1].sum() == 1 and mask[1, 0, 0]


@pytest.mark.parametrize("model_class", [GPT, OPT, Llama])
def test_the_model_learns_what_it_would_from_each_alone(model_class):
    longest = {"n_positions": 16} if model_class is GPT else {"max_position_embeddings": 16}
    model, examples = model_class.tiny(**longest), make(12)
    batch, losses, gradients = packed(pack(examples, 16)), [], []
    for arguments in (batch, padded(examples)):
        model.zero_grad()
        losses.append(model.loss(**model.named(arguments)))
        model.backward()
        gradients.append(model.flat.grad.copy())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
    assert batch[0].size < padded(examples)[0].size


def test_batches_go_on_where_they_stood():
    examples = make(30)
    row = PackedBatches(examples, 2, 16, seed=3)
    first = [next(row) for _ in range(7)]
    state, following = row.state_dict(), next(row)
    again = PackedBatches(examples, 2, 16, seed=3)
    again.load_state_dict(state)
    for a, b in zip(next(again), following):
        np.testing.assert_array_equal(a, b)
    assert len(first[0]) == 4 and row.count < ExampleBatches(examples, 2).count / 2
    with pytest.raises(DataError, match="length 16, now 20"):
        PackedBatches(examples, 2, 20, seed=3).load_state_dict(state)


def test_what_is_too_long_is_told():
    with pytest.raises(DataError, match="an example has 8 tokens, and a row takes 5"):
        pack(make(20), 4)
