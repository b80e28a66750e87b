"""Sentences of a text as its summary: where a text is split, the scores of its sentences, the command."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import metrics
from tinyllm.cli import cli
from tinyllm.data.sentences import copy_pairs, sentences
from tinyllm.data.text_pairs import read_pairs
from tinyllm.pipelines.extraction import ROWS, extracts, scores
from tinyllm.pipelines.text2text import Use, prompt
from tinyllm.tasks.pairs import Summarization
from tinyllm.tokenizers import BPETokenizer, UnigramTokenizer

TEXT = "Dogs run in the snow. We show that cats sleep! Do birds see the trees? They like them"
USE = Use("summarize: ", max_source_length=60, max_length=40, length_penalty=1.0, suffix="\n=> ")


@pytest.fixture(autouse=True)
def plain_kernels():
    with tinyllm.kernels.use("reference"):
        yield


@pytest.fixture(scope="module", params=["t5", "gpt"])
def both(request):
    """A model with random weights and its tokenizer: an encoder-decoder, or a decoder."""
    if request.param == "t5":
        tokenizer = UnigramTokenizer.train([TEXT] * 3, 330)
        ids = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id}
        model = tinyllm.T5.tiny(vocab_size=tokenizer.vocab_size, decoder_start_token_id=tokenizer.pad_id, **ids)
    else:
        tokenizer = BPETokenizer.train([TEXT] * 3, 280)
        model = tinyllm.GPT.tiny(vocab_size=tokenizer.vocab_size, n_positions=256, eos_token_id=tokenizer.eos_id)
    return model, tokenizer


def test_sentences():
    assert sentences(TEXT) == [
        "Dogs run in the snow.", "We show that cats sleep!", "Do birds see the trees?", "They like them",
    ]  # fmt: skip
    assert sentences('As (Kim et al. 2018) say, e.g. here. "It is so." (Or not.) At 3.5 V. x') == [
        "As (Kim et al. 2018) say, e.g. here.", '"It is so."', "(Or not.)", "At 3.5 V. x",
    ]  # fmt: skip
    assert sentences("#Person1#: Hello\n#Person2#: Hi. I\n am well\n\nsoon ") == [
        "#Person1#: Hello", "#Person2#: Hi.", "I\n am well", "soon",
    ]  # fmt: skip
    assert sentences("") == sentences(" \n \n") == []


def test_copies(tmp_path):
    """A sentence of three in a row, by its first words; of two where there are no more. As data of a task."""
    three = ["The dogs run in the snow.", "We show that the cats sleep.", "Do the birds see the trees?"]
    texts = [" ".join([*three, "Short one.", "They like them all very much."]), " ".join(three[:2]), three[0], ""]
    pairs = copy_pairs(texts)
    assert len(pairs) == 3
    for (source, (target,)), near in zip(pairs, [three, [*three[1:], "They like them all very much."], three[:2]]):
        given, _, text = source.partition(" : ")
        assert text == " ".join(near) and target in near and target.split()[:3] == given.split()
    assert len({source.split()[1] for source, _ in copy_pairs([" ".join(three)] * 30)}) == 3  # any of the three

    path = tmp_path / "texts.tsv"
    path.write_text("".join(f"{text}\tshort\n" for text in texts if text), encoding="utf-8")
    assert read_pairs(f"copies:{path}").references == [(t,) for _, (t,) in pairs]
    task = Summarization(data=[str(path), f"copies:{path}"])
    assert [task.prefix_of(i) for i in (0, 1)] == ["summarize: ", "copy: "]
    assert [task.name_of(i) for i in (0, 1)] == ["summarize", "copy"]


def test_copies_are_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "texts.tsv").write_text("a\tb\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert Summarization(data=["copies:texts.tsv"]).data == [f"copies:{tmp_path / 'texts.tsv'}"]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_score_is_the_models_own_loss(both, penalty):
    """Of more sentences than are computed together: each as if it were alone."""
    model, tokenizer = both
    several = [*sentences(TEXT), *(f"cats run {i}" for i in range(ROWS))]
    use = dataclasses.replace(USE, length_penalty=penalty)
    found = scores(model, tokenizer, TEXT, several, use)
    for one, score in zip(several, found):
        ids = [*tokenizer.encode(one)[: use.max_length - 1], tokenizer.eos_id]
        if isinstance(model, tinyllm.T5):
            read = [*tokenizer.encode(use.prefix + TEXT)[: use.max_source_length - 1], tokenizer.eos_id]
            start = model.config.decoder_start_token_id
            loss = model.loss(np.array([read]), np.array([[start, *ids[:-1]]]), np.array([ids]))
        else:
            before = prompt(tokenizer, TEXT, use)
            targets = np.array([[-100] * (len(before) - 1) + ids])
            loss = model.loss(np.array([before + ids[:-1]]), targets)
        model.forget()
        assert score == pytest.approx(-loss * len(ids) ** (1 - penalty), rel=1e-4)


def test_the_best_sentence_is_taken(both):
    model, tokenizer = both
    several = sentences(TEXT)
    best = several[int(scores(model, tokenizer, TEXT, several, USE).argmax())]
    done = []
    assert extracts(model, tokenizer, [TEXT, "", "One alone."], USE, done.append) == [best, "", "One alone."]
    assert done == [1, 2, 3]


def test_summarize_a_table_by_its_own_sentences(both, tmp_path):
    """Lists of sentences as sources, several targets each; and dialogues with line ends."""
    model, tokenizer = both
    tinyllm.save(tmp_path / "model", model, tokenizer)
    rows = [
        {"source": sentences(TEXT), "target": ["Cats sleep.", "Dogs run in snow."]},
        {"source": ["Trees are high.", "They see us."], "target": ["High trees."]},
    ]
    data = tmp_path / "dev.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = CliRunner().invoke(cli, ["summarize", str(tmp_path / "model"), "--data", str(data), "--extract"])
    assert done.exit_code == 0, done.output
    written = done.stdout.splitlines()
    assert all(one in row["source"] for one, row in zip(written, rows, strict=True))
    references = [row["target"] for row in rows]
    for begin, texts in (("rouge1", written), ("the first sentence: rouge1", [row["source"][0] for row in rows])):
        assert f"{begin} {metrics.rouge(texts, references)['rouge1']:.4g}" in done.stderr.splitlines()[begin[0] == "t"]

    again = {"source": rows[0]["source"], "target": ["Dogs and cats."]}  # one more right summary of the first text
    data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, again]), encoding="utf-8")
    done = CliRunner().invoke(cli, ["summarize", str(tmp_path / "model"), "--data", str(data), "--extract"])
    assert done.stdout.splitlines() == written
    together = metrics.rouge(written, [[*references[0], *again["target"]], references[1]])
    assert done.stderr.startswith(f"rouge1 {together['rouge1']:.4g}")

    talk = tmp_path / "talk.jsonl"
    talk.write_text(json.dumps({"dialogue": "#A#: Hi\n#B#: So.", "summary": "They say hi."}) + "\n", encoding="utf-8")
    sides = ["--source", "dialogue", "--target", "summary", "--max-length", "5"]
    done = CliRunner().invoke(cli, ["summarize", str(tmp_path / "model"), "--data", str(talk), *sides])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 1, done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x", "--data", "d.jsonl"], "the texts themselves, --file or --data"),
        (["x", "--source", "a"], "say what is read of --data"),
        (["--data", "d.jsonl", "--references", "r.txt"], "--references goes with --file"),
        (["--data", "none.jsonl"], "none.jsonl does not exist"),
    ],
)
def test_mistakes_are_one_line(both, tmp_path, options, message):
    model, tokenizer = both
    tinyllm.save(tmp_path / "model", model, tokenizer)
    done = CliRunner().invoke(cli, ["summarize", str(tmp_path / "model"), *options])
    assert done.exit_code != 0 and message in done.stderr and "Traceback" not in done.output
