"""Masks: bool, or 0 and 1 of any dtype. Everything else is refused, whichever model or function it is given to."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_uses import model_for

import tinyllm
from tinyllm.generation import encoded
from tinyllm.models import MODELS

KINDS = ["GPT", "Llama", "OPT", "BERT", "BERTForSequenceClassification", "GPTForSequenceClassification", "T5"]
DTYPES = ["int8", "uint8", "int64", "float16", "float32", "float64"]
TOKENS = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]])
KEEP = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
MODELS_OF = {kind: MODELS[kind][0].tiny() for kind in KINDS}


def called(kind, mask):
    if kind == "T5":
        return MODELS_OF[kind](TOKENS, TOKENS[:, :2], source_mask=mask)
    return MODELS_OF[kind](TOKENS, attention_mask=mask)


@pytest.mark.parametrize("kind", KINDS)
@given(dtype=st.sampled_from(DTYPES), keep=st.lists(st.booleans(), min_size=10, max_size=10).filter(any))
def test_zeros_and_ones_are_as_bool(kind, dtype, keep):
    keep = np.array(keep).reshape(2, 5)
    keep[:, 4] = True
    np.testing.assert_array_equal(called(kind, keep.astype(dtype)), called(kind, keep))
    np.testing.assert_array_equal(called(kind, keep.astype(int).tolist()), called(kind, keep))


wrong_values = st.one_of(
    st.sampled_from([-1e9, -np.inf, np.inf, np.nan, 0.5, -1.0, 2.0, np.finfo(np.float32).min, 255.0, 1 + 1e-7]),
    st.floats().filter(lambda x: x not in (0, 1)),
    st.integers(-(2**31), 2**31).filter(lambda i: i not in (0, 1)),
)


@pytest.mark.parametrize("kind", KINDS)
@given(value=wrong_values, place=st.integers(0, 9))
def test_everything_else_is_refused(kind, value, place):
    """Wherever it is, beside zeros and ones."""
    mask = np.where(KEEP, 1, 0).astype(np.array(value).dtype)
    mask.flat[place] = value
    name = "source_mask" if kind == "T5" else "attention_mask"
    with pytest.raises(ValueError, match=f"{name} holds .* bool, or 0 and 1: .* is converted by {name} = additive == 0"):
        called(kind, mask)


@pytest.mark.parametrize("hidden", [-1e9, -np.inf, float(np.finfo(np.float16).min)])
def test_the_conversion_that_the_error_names_is_right(hidden):
    additive = np.where(KEEP, 0.0, hidden)
    with pytest.raises(ValueError, match="additive == 0"):
        called("GPT", additive)
    np.testing.assert_array_equal(called("GPT", additive == 0), called("GPT", KEEP))


def test_an_additive_mask_of_real_tokens_alone():
    """All zeros: real tokens for an additive mask, padding for one of 0 and 1."""
    with pytest.raises(ValueError, match="attention_mask holds only 0 as float64, so that no token would be real"):
        called("GPT", np.zeros((2, 5)))


def test_masks_of_queries_and_keys():
    mask = np.tril(np.ones((5, 5)))[None]
    expected = MODELS_OF["BERT"](TOKENS, attention_mask=mask.astype(bool))
    np.testing.assert_array_equal(MODELS_OF["BERT"](TOKENS, attention_mask=np.repeat(mask, 2, 0)), expected)
    with pytest.raises(ValueError, match="attention_mask holds -1.0"):
        MODELS_OF["BERT"](TOKENS, attention_mask=mask - 1)


ADDITIVE = np.where(KEEP, 0.0, -1e9)


@pytest.mark.parametrize(
    "use",
    [
        lambda m: tinyllm.generate(m("GPT"), TOKENS, 3, attention_mask=ADDITIVE),
        lambda m: tinyllm.generate(m("T5"), TOKENS, 3, attention_mask=ADDITIVE),
        lambda m: tinyllm.generate(m("T5"), TOKENS, 3, attention_mask=ADDITIVE, num_beams=2),
        lambda m: encoded(m("T5"), TOKENS, ADDITIVE),
        lambda m: m("T5").encode(TOKENS, source_mask=ADDITIVE),
        lambda m: m("T5").loss(TOKENS, TOKENS, TOKENS, source_mask=ADDITIVE),
        lambda m: m("GPT").loss(TOKENS, TOKENS, attention_mask=ADDITIVE),
        lambda m: m("BERT").loss(TOKENS, TOKENS, attention_mask=ADDITIVE),
        lambda m: m("BERT").at(KEEP, TOKENS, attention_mask=ADDITIVE),
        lambda m: m("BERT").at(ADDITIVE, TOKENS),
        lambda m: m("BERT").last_hidden_state(TOKENS, attention_mask=ADDITIVE),
        lambda m: m("GPTForSequenceClassification")(TOKENS, attention_mask=ADDITIVE),
        lambda m: m("GPTForSequenceClassification").loss(TOKENS, [0, 1], attention_mask=ADDITIVE),
    ],
)
def test_every_function_that_takes_a_mask(use):
    with pytest.raises(ValueError, match="additive == 0"):
        use(model_for)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5,), (1, 5), (5, 2), (2, 4), (2, 5, 4), (2, 1, 1, 5)])
def test_the_shape_is_checked(kind, shape):
    with pytest.raises(ValueError, match=re.escape("_mask must have shape (2, 5)")) as error:
        called(kind, np.ones(shape, bool))
    assert f"has {shape}" in str(error.value)
