"""One line comes out for each line or row that goes in: classify, answer, tag, embed and fill-mask."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import cli
from tinyllm.data.tagged import words_of
from tinyllm.models import (
    BERT,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from tinyllm.models.gpt import GPTForSequenceClassification
from tinyllm.tokenizers import BPETokenizer, WordPieceTokenizer

LINES = ["the [MASK] cat", "", "  ", "sat on, the [MASK]", "\u200b the [MASK] cat"]
TOKENIZER = WordPieceTokenizer.train(["the cat sat on, the mat"] * 3, 60)
SIZES = {"vocab_size": TOKENIZER.vocab_size, "max_position_embeddings": 32, "initializer_range": 0.5}
KINDS = {
    "classify": BERTForSequenceClassification,
    "tag": BERTForTokenClassification,
    "embed": BERT,
    "fill-mask": BERT,
    "answer": BERTForQuestionAnswering,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, kind in KINDS.items():
        tinyllm.save(folder / name, kind.tiny(**SIZES), TOKENIZER)
    (folder / "context.txt").write_text("the cat sat on, the mat", encoding="utf-8")
    return folder


def run(models, command, *args, input=None, fails=False):
    about = ["--context", str(models / "context.txt")] if command == "answer" else []
    done = CliRunner().invoke(cli.cli, [command, str(models / command), *about, *map(str, args)], input=input)
    assert done.exit_code == int(fails), done.output
    return done.stderr if fails else done.stdout


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_line_for_each_line(models, tmp_path, command, end):
    content = end.join([*LINES, ""])
    (tmp_path / "lines.txt").write_bytes(content.encode())
    out = run(models, command, "--file", tmp_path / "lines.txt").split("\n")
    assert len(out) == len(LINES) + 1 and out[-1] == ""
    assert command == "embed" or out[1] == out[2] == ""
    assert out[0] and out[3] and out[4]
    for same in (["--file", "-"], [] if command != "answer" else ["--file", "-"]):
        assert run(models, command, *same, input=content.encode()).split("\n") == out
    one = run(models, command, "--file", "-", input=LINES[3]).split("\n")  # without a line end at the end
    assert len(one) == 2 and (command == "embed" or one[0] == out[3])


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "semicolons.csv"])
def test_one_line_for_each_row_of_a_table(models, tmp_path, command, name):
    texts = ["the [MASK]; cat", "sat on, the [MASK]"]
    if name.endswith("jsonl"):
        content = "".join(json.dumps({"id": i, "body": text}) + "\n" for i, text in enumerate(texts))
    else:
        between = {"rows.csv": ",", "rows.tsv": "\t", "semicolons.csv": ";"}[name]
        quote = "" if between == "\t" else '"'
        content = f"id{between}body\n" + "".join(f"{i}{between}{quote}{text}{quote}\n" for i, text in enumerate(texts))
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "lines.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    out = run(models, command, "--file", tmp_path / name, "--text-column", "body")
    assert out == run(models, command, "--file", tmp_path / "lines.txt") and out.count("\n") == 2


@pytest.mark.parametrize("command", KINDS)
def test_encodings_are_proposed_and_taken(models, tmp_path, command):
    (tmp_path / "latin.txt").write_bytes("the café [MASK]\nthe mañana [MASK]\n".encode("latin-1"))
    assert "--encoding latin-1" in run(models, command, "--file", tmp_path / "latin.txt", fails=True)
    assert run(models, command, "--file", tmp_path / "latin.txt", "--encoding", "latin-1").count("\n") == 2
    assert "none.txt does not exist" in run(models, command, "--file", tmp_path / "none.txt", fails=True)


@pytest.mark.parametrize("command", [command for command in KINDS if command != "answer"])
def test_no_text_at_all_is_told(models, command):
    assert "--file lines.txt, or - for standard input" in run(models, command, input="", fails=True)


# What the commands say ---------------------------------------------------------------------------------------------------


def test_classify_takes_pairs_from_a_table_or_by_tabs(models, tmp_path):
    (tmp_path / "pairs.csv").write_text('q,a\n"the cat","on, the mat"\nmat,sat\n', encoding="utf-8")
    rows = run(models, "classify", "--file", tmp_path / "pairs.csv", "--text-column", "q", "--second-column", "a")
    assert rows == run(models, "classify", "the cat\ton, the mat", "mat\tsat")
    wrong = run(models, "classify", "the cat\tsat", "mat", fails=True)
    assert "text 2 has 0 tabs" in wrong and "--pairs no" in wrong
    (tmp_path / "lines.txt").write_text("\nthe cat\tsat\nmat\n", encoding="utf-8")
    assert "lines.txt, line 3 has 0 tabs" in run(models, "classify", "--file", tmp_path / "lines.txt", fails=True)
    alone = run(models, "classify", "--pairs", "no", "the cat\tsat", "mat").splitlines()
    assert [line.split("\t")[2] for line in alone] == ["the cat sat", "mat"]


def test_a_tab_is_no_pair_for_a_decoder(tmp_path):
    tokenizer = BPETokenizer.train("the cat\tsat on the mat " * 9, 270)
    tinyllm.save(tmp_path / "gpt", GPTForSequenceClassification.tiny(vocab_size=tokenizer.vocab_size), tokenizer)
    done = CliRunner().invoke(cli.cli, ["classify", str(tmp_path / "gpt"), "--file", "-"], input="a\tb\n\nc\n")
    assert done.exit_code == 0, done.output
    assert [line.split("\t")[2:] for line in done.stdout.split("\n")] == [["a b"], [], ["c"], []]


def test_a_line_without_a_gap_is_named(models, tmp_path):
    (tmp_path / "gaps.txt").write_text("the [MASK]\n\nthe cat\n", encoding="utf-8")
    wrong = run(models, "fill-mask", "--file", tmp_path / "gaps.txt", fails=True)
    assert "gaps.txt, line 3: there is no [MASK] in 'the cat'" in wrong
    (tmp_path / "gaps.csv").write_text("text\nthe [MASK]\nthe cat\n", encoding="utf-8")
    assert "gaps.csv, line 3: there is" in run(models, "fill-mask", "--file", tmp_path / "gaps.csv", fails=True)


def test_tag_formats(models, tmp_path):
    text = "the cat sat on, the mat"
    words = [word for word, *_ in words_of(text)]
    tags = tinyllm.tag(*tinyllm.load(models / "tag"), [text])[0]
    assert run(models, "tag", text) == " ".join(f"{t.word}/{t.label}" for t in tags) + "\n"
    values = json.loads(run(models, "tag", text, "--format", "json"))
    assert [(v["word"], v["label"]) for v in values] == [(t.word, t.label) for t in tags]
    conll = run(models, "tag", text, "mat", "--format", "conll")
    assert [block.split("\n")[0].split("\t")[0] for block in conll.strip().split("\n\n")] == [words[0], "mat"]


def test_embed_writes_what_python_computes(models, tmp_path):
    texts = ["the cat", "sat"]
    vectors = tinyllm.sentence_embeddings(*tinyllm.load(models / "embed"), texts)
    printed = [list(map(float, line.split("\t"))) for line in run(models, "embed", *texts).splitlines()]
    np.testing.assert_allclose(printed, vectors, atol=1e-5)
    run(models, "embed", *texts, "--out", tmp_path / "vectors.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), vectors)
    assert "must end in .npy" in run(models, "embed", *texts, "--out", tmp_path / "vectors.txt", fails=True)


def test_answer_reads_a_context_for_each_question(models, tmp_path):
    rows = [("what?", "the cat sat"), ("where?", "on, the mat")]
    (tmp_path / "asked.tsv").write_text("".join(f"{q}\t{c}\n\n" for q, c in rows), encoding="utf-8")
    (tmp_path / "asked.csv").write_text("question,context\n" + "".join(f'{q},"{c}"\n' for q, c in rows), encoding="utf-8")
    found = [one.text for one in tinyllm.answer(*tinyllm.load(models / "answer"), rows)]
    for name, expected in [("asked.tsv", [found[0], "", found[1], ""]), ("asked.csv", found)]:
        done = CliRunner().invoke(cli.cli, ["answer", str(models / "answer"), "--file", str(tmp_path / name)])
        assert done.exit_code == 0 and done.stdout.split("\n") == [*expected, ""], done.output
    (tmp_path / "wrong.txt").write_text("what?\n", encoding="utf-8")
    done = CliRunner().invoke(cli.cli, ["answer", str(models / "answer"), "--file", str(tmp_path / "wrong.txt")])
    assert done.exit_code == 1 and "wrong.txt, line 1: without --context" in done.stderr
