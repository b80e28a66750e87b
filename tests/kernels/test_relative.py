"""Relative position buckets: those of transformers for every distance, and the properties that the paper gives them."""

import numpy as np
import pytest
from calls import SETS, function

from tinyllm.kernels.reference.relative import buckets


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (32, 256), (64, 128), (8, 20), (7, 11), (4, 3)])
def test_buckets_are_those_of_transformers(n_buckets, max_distance, bidirectional):
    torch = pytest.importorskip("torch", reason="the peer whose buckets ours are compared with")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="the peer whose buckets ours are compared with")
    ahead = np.arange(-5000, 5001)
    theirs = t5.T5Attention._relative_position_bucket(torch.tensor(ahead), bidirectional, n_buckets, max_distance)
    np.testing.assert_array_equal(buckets(ahead, n_buckets, bidirectional, max_distance), theirs.numpy())


def test_near_keys_have_buckets_of_their_own_and_far_ones_share_the_last():
    behind = buckets(-np.arange(1000), 32, bidirectional=False)
    assert behind[:16].tolist() == list(range(16))
    assert (np.diff(behind) >= 0).all() and (behind[128:] == 31).all() and behind[100] < 31
    assert not buckets(np.arange(1000), 32, bidirectional=False).any()  # what lies ahead is never seen
    both = buckets(np.arange(-1000, 1001), 32)
    assert (both[:1000] == both[:1000:-1] - 16).all()  # the same steps in both directions


def test_queries_are_the_last_positions():
    w = np.arange(32.0)[:, None]
    for kernel_set in SETS:
        bias = function("relative_bias_forward", kernel_set)
        np.testing.assert_array_equal(bias(w, 1, 9, False, 128), bias(w, 9, 9, False, 128)[:, -1:])


@pytest.mark.parametrize("any_set", SETS)
def test_each_number_of_the_gradient_goes_to_its_bucket(any_set):
    dw = np.zeros((32, 1))
    function("relative_bias_backward", any_set)(np.ones((1, 3, 3)), dw)
    assert dw[:3, 0].tolist() == [3, 2, 1]  # the diagonal, one and two behind
    assert dw[16:19, 0].tolist() == [0, 2, 1] and dw.sum() == 9
