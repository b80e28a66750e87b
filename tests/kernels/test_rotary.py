"""What makes a rotation rotary: lengths stay, scalar products know distances alone, and views are turned as copies are."""

import numpy as np
import pytest
from calls import SETS, function

RANDOM = np.random.default_rng(0)
B, T, H, D = 2, 6, 3, 8
FREQUENCIES = 10000.0 ** (-np.arange(D // 2) / (D // 2))

every_set = pytest.mark.parametrize("any_set", SETS)
both_layouts = pytest.mark.parametrize("neighbours", [False, True])


def complex_pairs(x, neighbours):
    return x[..., ::2] + 1j * x[..., 1::2] if neighbours else x[..., : D // 2] + 1j * x[..., D // 2 :]


@every_set
@both_layouts
def test_is_multiplication_by_a_complex_number(any_set, neighbours):
    x, positions = RANDOM.standard_normal((B, T, H, D)), RANDOM.integers(0, 1000, (B, T))
    y = function("rotary_forward", any_set)(x, positions, FREQUENCIES, 1.5, neighbours)
    factor = 1.5 * np.exp(1j * positions[:, :, None, None] * FREQUENCIES)
    np.testing.assert_allclose(complex_pairs(y, neighbours), factor * complex_pairs(x, neighbours), atol=1e-12)


@every_set
@both_layouts
def test_products_depend_on_distances_alone(any_set, neighbours):
    forward, vectors = function("rotary_forward", any_set), RANDOM.standard_normal((2, D))
    q, k = np.tile(vectors[:, None, None, None], (1, 1, T, 1, 1))  # (1, T, 1, D): the same vector at all positions
    products = []
    for positions in (np.arange(T), np.arange(T) + 12345):
        turned_q, turned_k = (forward(x, positions, FREQUENCIES, 1.0, neighbours)[0, :, 0] for x in (q, k))
        products.append(turned_q @ turned_k.T)  # (T, T)
    np.testing.assert_allclose(products[0], products[1], atol=1e-9)
    assert np.ptp(products[0]) > 0.1


@every_set
@both_layouts
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_turns_a_part_of_a_packed_array_and_back(any_set, neighbours, dtype):
    packed = RANDOM.standard_normal((B, T, H + 2, D)).astype(dtype)
    before, part, positions = packed.copy(), packed[:, :, 1:-1], np.arange(T)
    y = function("rotary_forward", any_set)(part, positions, FREQUENCIES, 1.0, neighbours)
    expected = function("rotary_forward", any_set)(part.copy(), positions, FREQUENCIES, 1.0, neighbours)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(packed, before)
    back = function("rotary_backward", any_set)(y, positions, FREQUENCIES, 1.0, neighbours)
    np.testing.assert_allclose(back, part, atol=1e-6)
    assert not np.may_share_memory(y, packed) and not np.may_share_memory(back, y)


@every_set
@both_layouts
def test_numbers_without_a_frequency_stay_as_they_are(any_set, neighbours):
    x, positions = RANDOM.standard_normal((B, T, H, D + 3)), np.arange(T)
    for op in ("rotary_forward", "rotary_backward"):
        y = function(op, any_set)(x, positions, FREQUENCIES, 1.5, neighbours)
        np.testing.assert_array_equal(y[..., D:], x[..., D:])
        turned = function(op, any_set)(x[..., :D].copy(), positions, FREQUENCIES, 1.5, neighbours)
        np.testing.assert_array_equal(y[..., :D], turned)


@every_set
def test_more_frequencies_than_pairs_are_refused(any_set):
    if any_set == "reference":
        pytest.skip("NumPy's own error")
    with pytest.raises(ValueError, match="frequencies"):
        function("rotary_forward", any_set)(np.ones((1, 1, 1, D)), np.array([1]), np.ones(D // 2 + 1))


@every_set
def test_float32_is_exact_at_far_positions(any_set):
    x, positions = np.ones((1, 1, 1, D), "f4"), np.array([1_000_003])
    y = function("rotary_forward", any_set)(x, positions, FREQUENCIES)
    angles = 1_000_003 * FREQUENCIES
    np.testing.assert_allclose(y[0, 0, 0, : D // 2], np.cos(angles) - np.sin(angles), atol=1e-6)
