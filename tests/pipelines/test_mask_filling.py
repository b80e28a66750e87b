"""Gaps that are filled: probabilities of the model itself, in batches as alone; words with labels; the command."""

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import cli
from tinyllm.models import BERT, BERTEncoder, BERTForTokenClassification
from tinyllm.tokenizers import ByteTokenizer, WordPieceTokenizer

TEXTS = ["The [MASK] is open.", "[MASK] is a file, and [MASK] is none.", "a [MASK] " + "word " * 9]
TOKENIZER = WordPieceTokenizer.train([text.replace("[MASK]", "x") for text in TEXTS], 60)


@pytest.fixture(scope="module")
def model():
    return BERT.tiny(vocab_size=TOKENIZER.vocab_size, max_position_embeddings=32, initializer_range=0.5)


def test_gaps_are_filled_by_probability(model):
    found = tinyllm.fill_mask(model, TOKENIZER, TEXTS, top_k=4, batch_size=2)
    assert [len(gaps) for gaps in found] == [1, 2, 1]
    for text, gaps in zip(TEXTS, found):
        ids = TOKENIZER.encode(text, add_special_tokens=True)
        logits = model([ids])[0].astype(np.float64)
        for place, words in zip((i for i, id in enumerate(ids) if id == TOKENIZER.mask_id), gaps):
            p = np.exp(logits[place]) / np.exp(logits[place]).sum()
            best = np.argsort(-p)[:4]
            assert [word.token for word in words] == [TOKENIZER.id_to_token(i) for i in best]
            np.testing.assert_allclose([word.probability for word in words], p[best], rtol=1e-4)
    assert found[0][0][0].text == TOKENIZER.decode(
        [TOKENIZER.token_to_id(found[0][0][0].token) if id == TOKENIZER.mask_id else id for id in TOKENIZER.encode(TEXTS[0])]
    )


def test_what_cannot_be(model):
    with pytest.raises(ValueError, match="predicts no masked words"):
        tinyllm.fill_mask(BERTEncoder.tiny(), TOKENIZER, TEXTS)
    with pytest.raises(ValueError, match=r"there is no \[MASK\] in 'nothing here'"):
        tinyllm.fill_mask(model, TOKENIZER, ["nothing here"])
    with pytest.raises(ValueError, match="this model takes at most 32"):
        tinyllm.fill_mask(model, TOKENIZER, ["[MASK]" * 40])
    with pytest.raises(ValueError, match="no mask token"):
        tinyllm.fill_mask(model, ByteTokenizer(), TEXTS)
    with pytest.raises(TypeError, match="brackets"):
        tinyllm.fill_mask(model, TOKENIZER, "a [MASK]")
    with pytest.raises(ValueError, match="labels no words"):
        tinyllm.tag(model, TOKENIZER, TEXTS)


def test_command(model, tmp_path):
    tinyllm.save(tmp_path / "model", model, TOKENIZER)
    done = CliRunner().invoke(cli.cli, ["fill-mask", str(tmp_path / "model"), TEXTS[0], "--top-k", "2"])
    words = tinyllm.fill_mask(model, TOKENIZER, TEXTS[:1], top_k=2)[0][0]
    assert [line.split()[1] for line in done.output.splitlines()] == [word.token for word in words]
    done = CliRunner().invoke(cli.cli, ["fill-mask", str(tmp_path / "model"), "-"], input="\n\n".join(TEXTS))
    lines = [line.split("\t") for line in done.output.split("\n")]
    assert lines[1] == lines[3] == lines[5] == [""] and len(lines) == 6  # a line for each line
    assert [line.count("|") for line in lines[:5:2]] == [0, 1, 0] and len(lines[0]) == 2 * 5
    done = CliRunner().invoke(cli.cli, ["fill-mask", str(tmp_path / "model"), "no gap"])
    assert done.exit_code == 1 and "there is no [MASK]" in done.output


def test_words_get_the_label_of_their_first_piece():
    names = {"0": "O", "1": "X", "2": "Y"}
    options = {
        "vocab_size": TOKENIZER.vocab_size,
        "max_position_embeddings": 32,
        "initializer_range": 0.5,
        "id2label": names,
    }
    model = BERTForTokenClassification.tiny(**options)
    texts = ["The file, open: (xword)", "", "word " * 40]
    found = tinyllm.tag(model, TOKENIZER, texts, batch_size=2)
    assert [[tag.word for tag in tags] for tags in found] == [
        ["The", "file", ",", "open", ":", "(", "xword", ")"],
        [],
        ["word"] * 40,
    ]
    ids = TOKENIZER.encode(texts[0], add_special_tokens=True)
    labels = model([ids])[0].argmax(-1)
    pieces = [len(TOKENIZER.encode(tag.word)) for tag in found[0]]
    firsts = np.cumsum([1, *pieces[:-1]])
    assert [tag.label for tag in found[0]] == [names[str(labels[i])] for i in firsts] and sum(pieces) == len(ids) - 2
    assert all(texts[0][tag.start : tag.end] == tag.word for tag in found[0])
