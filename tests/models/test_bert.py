"""BERT and its heads: gradients of every class and variant, what each head looks at, checks of the input."""

import numpy as np
import pytest

import tinyllm
from tinyllm import kernels
from tinyllm.models import (
    BERT,
    BERTConfig,
    BERTEncoder,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)

CLASSES = [
    BERT,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    BERTForQuestionAnswering,
    BERTEncoder,
]
VARIANTS = {
    **{made.__name__: (made, {}) for made in CLASSES},
    "next sentence": (BERT, {"next_sentence": True}),
    "untied": (BERT, {"tie_word_embeddings": False}),
    "recomputed": (BERT, {"recompute": True}),
    "padding of another id": (BERTForTokenClassification, {"pad_token_id": 3, "hidden_act": "gelu_new"}),
    "no segments, no padding": (BERTForSequenceClassification, {"type_vocab_size": 0, "pad_token_id": None}),
    "roberta": (BERTForSequenceClassification, {"model_type": "roberta", "type_vocab_size": 1}),
    "distilbert": (BERTForSequenceClassification, {"model_type": "distilbert", "type_vocab_size": 0}),
    "no pooler": (BERTEncoder, {"pooler": False}),
}


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("kernel_set", ["reference", "cpu"])
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients(name, kernel_set):
    made, options = VARIANTS[name]
    model = made.tiny(**options)
    model.train()  # dropout on
    with kernels.use(kernel_set):
        for check in tinyllm.gradcheck(model, samples=3):
            assert check.error < 1e-6, check


@pytest.mark.parametrize("made", [BERTForSequenceClassification, BERTForTokenClassification])
def test_gradients_with_class_weights(made):
    model = made.tiny()
    for check in tinyllm.gradcheck(model, samples=3, class_weight=[0.5, 2.0, 0.0]):
        assert check.error < 1e-6, check


@pytest.mark.parametrize("made", CLASSES)
def test_call_and_loss_agree(made, random):
    """The shapes that the class promises, and a loss that is that of the call's result."""
    model = made.tiny()
    (tokens, targets), options = model.example(random), model.example_options(random)
    y = model(tokens, **options)
    (B, T), c = tokens.shape, model.config
    last = {BERT: (T, c.vocab_size), BERTForSequenceClassification: (3,), BERTForTokenClassification: (T, 3)}
    assert y.shape == (B, *{**last, BERTForQuestionAnswering: (T, 2), BERTEncoder: (T, c.hidden_size)}[made])
    assert y.dtype == np.float32
    loss = model.loss(tokens, targets, **options)
    assert isinstance(loss, float)
    if made is BERTEncoder:
        assert loss == pytest.approx(np.mean((y - targets) ** 2), rel=1e-5)
        return
    logits = y.transpose(0, 2, 1) if made is BERTForQuestionAnswering else y
    logits, counted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1) != -100
    nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), targets.reshape(-1) * counted]
    assert loss == pytest.approx(nll[counted].mean(), rel=1e-5)


def test_padding_and_what_follows_change_nothing(random):
    model = BERT.tiny()
    tokens = random.integers(1, 13, (1, 5))
    padded, mask = np.pad(tokens, ((0, 0), (0, 3))), np.arange(8)[None] < 5
    np.testing.assert_allclose(model(padded, attention_mask=mask)[:, :5], model(tokens), atol=1e-6)
    other = tokens.copy()
    other[0, -1] = tokens[0, -1] % 12 + 1
    assert (model(other)[0, 0] != model(tokens)[0, 0]).any()  # it looks ahead


def test_segments_default_to_the_first(random):
    model = BERT.tiny()
    tokens = random.integers(1, 13, (2, 5))
    np.testing.assert_array_equal(model(tokens), model(tokens, token_types=np.zeros((2, 5), int)))
    assert (model(tokens) != model(tokens, token_types=np.ones((2, 5), int))).any()


def test_segments_are_ignored_where_the_model_has_none(random):
    model = BERT.tiny(type_vocab_size=0, model_type="distilbert")
    tokens = random.integers(1, 13, (2, 5))
    np.testing.assert_array_equal(model(tokens), model(tokens, token_types=np.ones((2, 5), int)))


def test_masked_words_alone_are_transformed(random):
    """The loss with two targets in 21 runs its head over two rows."""
    model = BERT.tiny()
    tokens, targets = model.example(random)
    targets[...] = -100
    assert model.loss(tokens, targets) == 0.0
    model.backward()
    assert not model.flat.grad.any()
    targets[0, 1], targets[2, 3] = 4, 5
    model.loss(tokens, targets)
    ((x, *_),) = model.mode.kept[model.head.masked.output]
    assert x.shape == (2, 8)


def test_both_losses_are_added(random):
    model = BERT.tiny(next_sentence=True)
    (tokens, targets), options = model.example(random), model.example_options(random)
    labels = options.pop("next_sentence")
    masked = model.loss(tokens, targets, **options)
    both = model.loss(tokens, targets, next_sentence=labels, **options)
    logits = model.next_sentence(tokens, **options)
    nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]
    assert both - masked == pytest.approx(nll.mean(), rel=1e-5)


def test_what_moves_all_positions_alike_moves_no_span(random):
    model = BERTForQuestionAnswering.tiny()
    model.loss(*model.example(random))
    model.backward()
    assert np.abs(model.head.spans.b.grad).max() < 1e-7 < np.abs(model.head.spans.w.grad).max()


def test_padding_token_has_no_gradient_as_an_input(random):
    model = BERTForQuestionAnswering.tiny()  # whose softmax reaches the padding
    tokens = np.pad(random.integers(1, 13, (2, 5)), ((0, 0), (0, 2)))
    model.loss(tokens, [[1, 2], [0, 4]])
    model.backward()
    assert not model.tokens.w.grad[0].any() and model.tokens.w.grad[tokens[0, 0]].any()


def test_a_new_head_on_a_trained_body():
    body = BERT.tiny(next_sentence=True)
    body.flat.data += 0.1
    tuned = BERTForSequenceClassification.on(body, num_labels=5)
    np.testing.assert_array_equal(tuned.blocks[1].mlp.up.w.data, body.blocks[1].mlp.up.w.data)
    np.testing.assert_array_equal(tuned.head.pooler.dense.w.data, body.head.pooler.dense.w.data)
    assert tuned.head.classifier.linear.w.shape == (5, 8) and not tuned.head.classifier.linear.b.data.any()
    assert body.config.num_labels == 3
    spans = BERTForQuestionAnswering.on(BERTForTokenClassification.on(body, num_labels=2))
    assert not spans.head.spans.b.data.any()  # of the same shape, and not the same head


def test_published_initialisation():
    model = tinyllm.BERT(BERTConfig(100, 256, 2, 4, 512))
    for parameter in model.parameters():
        if parameter.decays:
            assert parameter.data.std() == pytest.approx(0.02, rel=0.1), parameter
        else:
            assert (parameter.data == ("norm" in parameter.name and parameter.name.endswith(".w"))).all(), parameter
    assert model.head.masked.output.w is model.tokens.w


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[0, 13]], [[1, 1]]), {}, "tokens holds 13"),
        (([[0, 1]], [[1, 3]]), {}, r"targets holds 3; each must lie in \[0, 3\)"),
        (([[0, 1]], [[1, 1]]), {"token_types": [[0, 2]]}, r"token_types holds 2"),
        (([[0, 1]], [[1, 1]]), {"token_types": [[0]]}, r"must have the shape of tokens, \(1, 2\), and has \(1, 1\)"),
        (([[0] * 9], [[1] * 9]), {}, "9 tokens, and this model takes at most 8"),
        (([[0, 1]], [[1, 1]]), {"attention_mask": [[1]]}, "attention_mask must have shape"),
        (([[0, 1]], [[1, 1]]), {"class_weight": [1, 2]}, "class_weight must be 3 finite numbers"),
        (([[0, 1]], [[1, 1]]), {"class_weight": [1, -2, 1]}, "none negative"),
    ],
)  # fmt: skip
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        BERTForTokenClassification.tiny().loss(*arguments, **options)


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match="has no next-sentence head"):
        BERT.tiny().loss([[1, 2]], [[1, 2]], next_sentence=[1])
    with pytest.raises(ValueError, match=r"targets must have shape \(1, 2, 8\)"):
        BERTEncoder.tiny().loss([[1, 2]], [[1, 2]])
    with pytest.raises(ValueError, match=r"targets holds 2; each must lie in \[0, 2\)"):
        BERTForQuestionAnswering.tiny().loss([[1, 2]], [[1, 2]])
    with pytest.raises(ValueError, match="hidden_size 10 must be a multiple of num_attention_heads 3"):
        BERTConfig(hidden_size=10, num_attention_heads=3)


def test_names_of_labels_say_how_many_there_are():
    config = BERTConfig(id2label={0: "no", 1: "yes", 2: "perhaps"})
    assert config.num_labels == 3 and config.id2label == {"0": "no", "1": "yes", "2": "perhaps"}


@pytest.mark.parametrize("made", CLASSES)
def test_masks_and_segments_go_by_name(made):
    """Hugging Face's order is bert(ids, mask, types): by position a mask would be read as segments."""
    model, ones = made.tiny(), np.ones((3, 7), int)
    tokens, targets = model.example(np.random.default_rng(0))
    for call in (lambda: model(tokens, ones), lambda: model(tokens, ones, ones), lambda: model.loss(tokens, targets, ones)):
        with pytest.raises(TypeError, match="positional argument"):
            call()
    with pytest.raises(TypeError):
        model.last_hidden_state(tokens, ones)


def test_targets_may_be_the_tokens_themselves():
    tokens = np.random.default_rng(0).integers(1, 13, (2, 6))
    assert BERT.tiny().loss(tokens, tokens) > 0  # some words that a masked-LM loss asks for are left as they are
