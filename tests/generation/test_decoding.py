"""Generation: the same tokens as transformers, the same with the cache as without, each row as alone, texts that stop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import order_one, peers

import tinyllm
from tinyllm import GPT, Llama, complete, generate, stream
from tinyllm.checkpoints import huggingface
from tinyllm.generation.decoding import Writer
from tinyllm.generation.sampling import Sampler, draw, softmax
from tinyllm.tokenizers import ByteTokenizer, CharacterTokenizer

VOCABULARY, LIMIT = 29, 24


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A GPT-2 of transformers with random weights, and ours with the same; float64."""
    _, transformers = peers()
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=LIMIT, n_embd=16, n_layer=2, n_head=2, eos_token_id=None, bos_token_id=None
    )
    theirs = order_one(transformers.GPT2LMHeadModel(config)).double()
    directory = tmp_path_factory.mktemp("gpt2")
    theirs.save_pretrained(directory)
    return theirs, huggingface.load(directory, dtype="float64")[0]


@pytest.fixture(scope="module")
def model():
    return lively(GPT.tiny(vocab_size=VOCABULARY, n_positions=LIMIT, tie_word_embeddings=False))


def lively(model):
    """With weights of order one, so that the tokens do not all look alike."""
    model.flat.data += np.random.default_rng(5).standard_normal(model.flat.size)
    return model


def prompts(lengths=(3, 7, 1), seed=0):
    """Rows of these lengths, padded on the left: tokens, mask."""
    random = np.random.default_rng(seed)
    rows = [random.integers(0, VOCABULARY, n) for n in lengths]
    tokens, mask = np.zeros((2, len(rows), max(lengths)), int)
    for i, row in enumerate(rows):
        tokens[i, -len(row) :], mask[i, -len(row) :] = row, 1
    return tokens, mask


def their_tokens(theirs, tokens, mask, **options):
    torch, _ = peers()
    with torch.no_grad():
        return theirs.generate(torch.tensor(tokens), attention_mask=torch.tensor(mask), do_sample=False, **options).numpy()


# As transformers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens(pair, use_cache):
    theirs, ours = pair
    tokens, mask = prompts()
    expected = their_tokens(theirs, tokens, mask, max_new_tokens=15, pad_token_id=0)
    result = generate(ours, tokens, max_new_tokens=15, attention_mask=mask, use_cache=use_cache)
    assert result.shape == (3, 22) and len(np.unique(expected)) > 5
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("eos", [[], [4], [4, 11, 20]])
def test_rows_that_end_are_filled(pair, eos):
    theirs, ours = pair
    tokens, mask = prompts((4, 6, 2, 5, 3))
    plain = generate(ours, tokens, 12, mask)
    eos = [int(plain[0, 9]), *eos]  # row 0 ends at its fourth token at the latest
    expected = their_tokens(theirs, tokens, mask, max_new_tokens=12, eos_token_id=eos, pad_token_id=1)
    result = generate(ours, tokens, 12, mask, eos_id=eos, pad_id=1)
    np.testing.assert_array_equal(result, expected)
    assert (result[0, 10:] == 1).all()
    all_end = generate(ours, tokens[:1], 12, mask[:1], eos_id=eos[0])
    assert all_end.shape[1] < 18 and all_end[0, -1] == eos[0]


@pytest.mark.parametrize("options", [{"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 0.6}])
def test_penalties(pair, options):
    theirs, ours = pair
    tokens, mask = prompts((5, 5))
    expected = their_tokens(theirs, tokens, mask, max_new_tokens=18, pad_token_id=0, **options)
    result = generate(ours, tokens, 18, **options)
    np.testing.assert_array_equal(result, expected)
    assert (result != generate(ours, tokens, 18)).any()


@pytest.mark.parametrize("num_beams", [1, 2, 4])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.5])
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_beam_search(pair, num_beams, length_penalty, early_stopping):
    theirs, ours = pair
    for eos in ([], [3], [3, 8, 22]):
        tokens, mask = prompts((4, 6, 1), seed=len(eos))
        options = {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
        if num_beams == 1:
            options = {"num_beams": 1}
        expected = their_tokens(
            theirs, tokens, mask, max_new_tokens=9, eos_token_id=eos or None, pad_token_id=1, use_cache=False, **options
        )  # with a pad_token_id of 0 they fill with the first eos_token_id
        np.testing.assert_array_equal(generate(ours, tokens, 9, mask, eos_id=eos, pad_id=1, **options), expected)


def test_beam_search_with_penalties_and_without_the_cache(pair):
    theirs, ours = pair
    tokens, mask = prompts((4, 4))
    options = {"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3}
    expected = their_tokens(theirs, tokens, mask, max_new_tokens=12, eos_token_id=3, pad_token_id=1, **options)
    for use_cache in (True, False):
        np.testing.assert_array_equal(
            generate(ours, tokens, 12, eos_id=3, pad_id=1, use_cache=use_cache, **options), expected
        )


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("options", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
def test_an_encoder_decoder_answers(options, num_beams, tmp_path):
    torch, transformers = peers()
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3, relative_attention_num_buckets=8,
        relative_attention_max_distance=12, decoder_start_token_id=0, **options,
    )  # fmt: skip
    theirs = order_one(transformers.T5ForConditionalGeneration(config)).double()
    theirs.save_pretrained(tmp_path)
    ours, _ = tinyllm.load(tmp_path, dtype="float64")
    source = np.random.default_rng(0).integers(2, VOCABULARY, (4, 7))
    mask = np.arange(7) < [[4], [7], [5], [7]]
    often = int(generate(ours, source, 3, mask)[0, 2])
    for beams in ({}, {"length_penalty": 2.0}, {"early_stopping": True}, {"no_repeat_ngram_size": 2}):
        given = {"num_beams": num_beams, **(beams if num_beams > 1 or "no_repeat_ngram_size" in beams else {})}
        expected = their_tokens(
            theirs, source, mask.astype(int), max_new_tokens=9, eos_token_id=[1, often], pad_token_id=2, **given
        )
        for use_cache in (True, False):
            result = generate(ours, source, 9, mask, eos_id=[1, often], pad_id=2, use_cache=use_cache, **given)
            np.testing.assert_array_equal(result, expected)


rows_of_scores = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40)


@given(
    scores=rows_of_scores,
    temperature=st.floats(0.1, 4),
    top_k=st.none() | st.integers(1, 45),
    top_p=st.none() | st.floats(0.05, 1),
    min_p=st.none() | st.floats(0, 1),
    penalty=st.floats(0.3, 3),
    row=st.lists(st.integers(0, 1), min_size=1, max_size=9),
    ngram=st.integers(0, 3),
)
@settings(max_examples=200)
def test_what_is_left_to_draw_from(scores, temperature, top_k, top_p, min_p, penalty, row, ngram):
    torch, transformers = peers()
    scores = np.array(scores) + np.arange(len(scores)) * 1e-3  # hardly any ties, whose order would decide
    processors = [transformers.RepetitionPenaltyLogitsProcessor(penalty)]
    processors += [transformers.NoRepeatNGramLogitsProcessor(ngram)] if ngram and len(scores) > 2 else []
    processors += [transformers.TemperatureLogitsWarper(temperature)]
    processors += [transformers.TopKLogitsWarper(top_k)] if top_k else []
    processors += [transformers.TopPLogitsWarper(top_p)] if top_p is not None and top_p < 1 else []
    processors += [transformers.MinPLogitsWarper(min_p)] if min_p is not None else []
    expected = torch.tensor(scores)[None]
    for processor in processors:
        expected = processor(torch.tensor([row]), expected)
    sampler = Sampler(temperature, top_k, top_p, min_p, penalty, ngram if len(scores) > 2 else 0)
    kept = sampler.kept(sampler.penalized(scores, row))
    expected = expected[0].numpy()
    at_the_edge = near_an_edge(sampler, scores, row)
    if not at_the_edge:
        np.testing.assert_array_equal(np.isfinite(kept), np.isfinite(expected))
        np.testing.assert_allclose(kept, expected - expected.max(), rtol=1e-12, atol=1e-12)


def near_an_edge(sampler, scores, row):
    """Whether a sum of probabilities lies so near to top_p or min_p that rounding decides."""
    without_edges = Sampler(sampler.temperature, sampler.top_k, None, None, sampler.repetition_penalty)
    p = np.sort(softmax(without_edges.kept(without_edges.penalized(scores, row))))
    sums = np.cumsum(p)
    near = np.abs(sums - (1 - sampler.top_p)).min() < 1e-9 if sampler.top_p is not None else False
    return near or (sampler.min_p is not None and np.abs(p / p.max() - sampler.min_p)[p < p.max()].min(initial=1) < 1e-9)


# Sampling --------------------------------------------------------------------------------------------------------------


def test_draws_have_the_probabilities():
    random = np.random.default_rng(0)
    scores = np.array([0.5, -np.inf, 2.0, 1.0, -3.0, -np.inf])
    counts = np.bincount([draw(scores, random) for _ in range(20_000)], minlength=6)
    assert counts[1] == counts[5] == 0
    np.testing.assert_allclose(counts / 20_000, softmax(scores), atol=0.012)


def test_a_seed_gives_the_same_again(model):
    tokens, mask = prompts((4, 6, 2))
    options = {"max_new_tokens": 10, "attention_mask": mask, "temperature": 1.0}
    first = generate(model, tokens, seed=3, **options)
    np.testing.assert_array_equal(generate(model, tokens, seed=3, use_cache=False, **options), first)
    assert (generate(model, tokens, seed=4, **options) != first).any()
    assert (generate(model, tokens, **options) != generate(model, tokens, **options)).any()
    assert len({tuple(row) for row in generate(model, [[1, 2]] * 8, 10, temperature=1.0, seed=0)}) == 8
    ends = generate(model, tokens, seed=3, **options, eos_id=int(first[0, 7]), pad_id=0)  # another row's end changes nothing
    row = first[2] if first[0, 7] not in first[2, 6:] else None
    assert row is None or (ends[2] == row).all()


def test_top_k_of_one_and_temperature_zero_are_greedy(model):
    tokens, _ = prompts((5,))
    greedy = generate(model, tokens, 12)
    np.testing.assert_array_equal(generate(model, tokens, 12, temperature=2.0, top_k=1, seed=0), greedy)
    np.testing.assert_array_equal(generate(model, tokens, 12, temperature=2.0, min_p=1.0, seed=0), greedy)
    np.testing.assert_array_equal(generate(model, tokens, 12, temperature=2.0, top_p=1e-9, seed=0), greedy)


# Rows, caches, limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GPT", "OPT", "Llama"])
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), new=st.integers(0, 26), seed=st.integers(0, 9))
def test_each_row_gives_what_it_gives_alone_with_and_without_the_cache(kind, lengths, new, seed):
    """Also where rows slide past the model's limit, each at its own time, and where some have ended."""
    limit = {"GPT": "n_positions"}.get(kind, "max_position_embeddings")
    model = lively(getattr(tinyllm, kind).tiny(vocab_size=VOCABULARY, tie_word_embeddings=False, **{limit: 16}))
    tokens, mask = prompts(lengths, seed)
    options = {"max_new_tokens": new, "eos_id": 7, "pad_id": 0, "repetition_penalty": 1.2}
    together = generate(model, tokens, attention_mask=mask, **options)
    np.testing.assert_array_equal(generate(model, tokens, attention_mask=mask, use_cache=False, **options), together)
    for row, real, result in zip(tokens, mask.astype(bool), together):
        (alone,) = generate(model, row[real][None], **options)
        expected = np.concatenate([row[~real], alone])
        np.testing.assert_array_equal(result[: len(expected)], expected)
        assert not result[len(expected) :].any()


def test_a_row_past_the_limit_goes_on_with_its_last_tokens(model):
    """Kept is half of the limit, or more where less is still to come."""
    (row,) = generate(model, [[1, 2, 3]], 60).tolist()
    seen = row[:3]
    for i in range(3, 63):
        if len(seen) > LIMIT:
            seen = seen[-(LIMIT - min(63 - i - 1, LIMIT // 2)) :]
        assert row[i] == model([seen])[0, -1].argmax()
        seen = [*seen, row[i]]
    long = np.random.default_rng(0).integers(0, VOCABULARY, (1, 40))
    (row,) = generate(model, long, 5)
    assert row[40] == model(long[:, -(LIMIT - 4) :])[0, -1].argmax()
    for i in range(41, 45):
        assert row[i] == model([row[40 - (LIMIT - 4) : i]])[0, -1].argmax()


def test_the_limit_may_be_an_error(model):
    generate(model, [[1] * 20], LIMIT - 20 + 1, past_limit="error")
    with pytest.raises(ValueError, match="need a sequence of 25, and this model takes at most 24"):
        generate(model, [[1] * 20], LIMIT - 20 + 2, past_limit="error")


def test_a_mask_may_have_its_padding_anywhere(model):
    random = np.random.default_rng(0)
    tokens, mask = random.integers(0, VOCABULARY, (3, 9)), random.random((3, 9)) < 0.6
    result = generate(model, tokens, 8, mask)
    np.testing.assert_array_equal(result[:, :9], tokens)
    for row, real, together in zip(tokens, mask, result):
        np.testing.assert_array_equal(generate(model, row[real][None], 8)[0, -8:], together[9:])


def test_dropout_is_off_and_training_goes_on_undisturbed(model):
    model = lively(GPT.tiny(vocab_size=VOCABULARY, n_positions=LIMIT, tie_word_embeddings=False))
    tokens, targets = model.example(np.random.default_rng(0))
    expected = generate(model, tokens, 5)
    model.train()
    model.loss(tokens, targets)
    state = model.mode.random.bit_generator.state
    np.testing.assert_array_equal(generate(model, tokens, 5), expected)
    assert model.mode.training and model.mode.random.bit_generator.state == state
    model.backward()


def test_llamas_cache_of_grouped_heads(model):
    model = lively(Llama.tiny(vocab_size=VOCABULARY))
    tokens, mask = prompts((2, 5))
    np.testing.assert_array_equal(
        generate(model, tokens, 9, mask, use_cache=False, num_beams=3), generate(model, tokens, 9, mask, num_beams=3)
    )


def test_on_token_sees_all_and_may_end_a_row(model):
    tokens, mask = prompts((4, 6))
    plain = generate(model, tokens, 10, mask)
    seen = {0: [], 1: []}

    def on_token(row, token):
        seen[row].append(token)
        return row == 0 and len(seen[0]) == 4

    result = generate(model, tokens, 10, mask, on_token=on_token, pad_id=28)
    assert seen == {0: plain[0, 6:10].tolist(), 1: plain[1, 6:].tolist()}
    assert (result[0, 10:] == 28).all() and (result[1] == plain[1]).all()


def test_the_models_own_ends():
    model = lively(GPT.tiny(vocab_size=VOCABULARY, n_positions=LIMIT, tie_word_embeddings=False))
    (row,) = generate(model, [[1, 2]], 10)
    model = model.with_config(eos_token_id=[28, int(row[4])], pad_token_id=3)
    (ended,) = generate(model, [[1, 2]], 10)
    np.testing.assert_array_equal(ended, row[: list(row).index(row[4], 2) + 1])
    np.testing.assert_array_equal(generate(model, [[1, 2]], 10, eos_id=())[0], row)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": 2, "temperature": 1}, "beam search"),
        ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"past_limit": "stop"}, "past_limit is 'stop'"),
        ({"attention_mask": [[1, 1]]}, "attention_mask must have shape"),
        ({"attention_mask": [[0, 0, 0]]}, "a row of tokens is empty"),
        ({"tokens": [[1, 99]]}, "tokens holds 99"),
        ({"tokens": [1, 2]}, r"of shape \(B, T\)"),
    ],
)
def test_bad_input_gives_one_clear_error(model, options, message):
    with pytest.raises(ValueError, match=message):
        generate(model, **{"tokens": [[1, 2, 3]], **options})


def test_a_damaged_model_is_told():
    model = GPT.tiny()
    model.norm.w.data[...] = np.nan
    with pytest.raises(FloatingPointError, match="the first layer whose output is not finite is norm; .* is norm.w"):
        generate(model, [[1]], 3)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"repetition_penalty": 1.2}])
def test_a_single_nan_among_the_logits_is_named(options):
    logits = np.array([3, np.nan, 5], np.float32)
    with pytest.raises(FloatingPointError, match="NaN"):
        Sampler(**options).choose(logits, [0], np.random.default_rng(0))


def test_no_rows_and_no_tokens(model):
    assert generate(model, np.zeros((0, 3), int), 5).shape == (0, 3)
    np.testing.assert_array_equal(generate(model, [[1, 2]], 0), [[1, 2]])


# Texts -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writing():
    """A model over bytes, and its tokenizer."""
    tokenizer = ByteTokenizer()
    return lively(GPT.tiny(vocab_size=tokenizer.vocab_size, n_positions=64)), tokenizer


def test_complete_and_stream_give_the_same_text(writing):
    model, tokenizer = writing
    prompts = ["Once", "", "In the beginning é", "x"]
    texts = complete(model, tokenizer, prompts, 30)
    for prompt, text in zip(prompts, texts):
        pieces = list(stream(model, tokenizer, prompt, 30))
        assert "".join(pieces) == text and len(pieces) > 5
    assert complete(model, tokenizer, [], 30) == []
    beams = complete(model, tokenizer, prompts, 6, num_beams=2)
    assert len(beams) == 4 and all(beams)


@settings(max_examples=200)
@given(
    text=st.text("abcé🙂", max_size=30),
    stop=st.lists(st.text("abcé🙂", min_size=1, max_size=4), max_size=3),
)
def test_a_text_ends_before_its_first_stop_string(text, stop):
    tokenizer = ByteTokenizer()
    writer = Writer(tokenizer, [], stop, [])
    shown = ""
    for token in tokenizer.encode(text):
        shown += writer.feed(token)
        assert text.startswith(shown) and not any(s in shown for s in stop)
        if writer.done:
            break
    shown += writer.finish()
    # the first character with which some stop string is complete decides
    complete_at = [i for i in range(len(text) + 1) if any(text[:i].endswith(s) for s in stop)]
    until = text[: complete_at[0]] if complete_at else text
    assert shown == until[: min((until.find(s) for s in stop if s in until), default=len(until))]


def test_text_goes_on_where_the_prompt_left_off():
    tokenizer = ByteTokenizer()
    euro = list("€".encode())
    writer = Writer(tokenizer, [*b"a", *euro[:2]], [], [])
    assert writer.feed(euro[2]) == "€" and writer.finish() == ""
    writer = Writer(tokenizer, [], [], [tokenizer.eos_id])
    assert [writer.feed(id) for id in (*b"hi", tokenizer.eos_id)] == ["h", "i", ""] and writer.done


def test_an_empty_prompt_begins_with_a_line_end_where_no_token_begins_texts():
    tokenizer = CharacterTokenizer.train("abc\n")
    model = lively(GPT.tiny(vocab_size=tokenizer.vocab_size))
    assert complete(model, tokenizer, [""], 5) == complete(model, tokenizer, ["\n"], 5)


def test_stop_must_be_strings(writing):
    with pytest.raises(ValueError, match="stop is"):
        complete(*writing, ["a"], stop="\n")
    with pytest.raises(ValueError, match="stop is"):
        list(stream(*writing, "a", stop=[""]))
    with pytest.raises(TypeError, match="list of prompts"):
        complete(*writing, "a")
