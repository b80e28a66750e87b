"""Answers in a text by SQuAD's rule, and multiple choice by likelihood as lm-evaluation-harness has it."""

import json

import numpy as np
import pytest
from parity import peers

import tinyllm
from tinyllm import huggingface, kernels, metrics
from tinyllm.data.squad import read_squad
from tinyllm.evaluation import questions
from tinyllm.evaluation.questions import read_choices
from tinyllm.models import BERTConfig, BERTForQuestionAnswering
from tinyllm.tokenizers import BPETokenizer, ByteTokenizer, WordPieceTokenizer

HELLASWAG = [
    {"ind": i, "activity_label": "Cooking", "ctx_a": f"A man is in the kitchen {i}.", "ctx_b": "he", "ctx": "unused",
     "endings": ["stirs [substeps] a pot.", "flies  away.", "eats thé bridge.", "sleeps."], "label": str(i % 4)}
    for i in range(6)
]  # fmt: skip
ARC = [
    {"id": str(i), "question": f"What is {i}?", "choices": {"text": ["a cat", "a number indeed", "the"], "label": "ABC"},
     "answerKey": "ABC"[i % 3]}
    for i in range(5)
]  # fmt: skip
ARC_OF_AI2 = [
    {"id": str(i), "answerKey": "12"[i % 2], "question": {"stem": f"Where is {i}?", "choices": [
        {"text": "in the north", "label": "1"}, {"text": "here", "label": "2"}]}}
    for i in range(5)
]  # fmt: skip


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prompts(row):
    """The context and the choices of a row as lm-evaluation-harness writes them."""
    if "endings" in row:
        texts = ["stirs  a pot.".replace("  ", " "), "flies away.", "eats thé bridge.", "sleeps."]
        return f"Cooking: {row['ctx_a']} He", texts, int(row["label"])
    if isinstance(row["question"], dict):
        choices = row["question"]["choices"]
        right = [one["label"] for one in choices].index(row["answerKey"])
        return f"Question: {row['question']['stem']}\nAnswer:", [one["text"] for one in choices], right
    return f"Question: {row['question']}\nAnswer:", row["choices"]["text"], "ABC".index(row["answerKey"])


@pytest.mark.parametrize("rows", [HELLASWAG, ARC, ARC_OF_AI2], ids=["hellaswag", "arc", "ai2"])
def test_choices_by_the_likelihood_of_transformers(rows, tmp_path):
    torch, transformers = peers()
    text = json.dumps(rows)
    tokenizer = BPETokenizer.train(text, 300)
    config = tinyllm.GPTConfig(
        vocab_size=tokenizer.vocab_size, n_positions=64, n_layer=1, n_head=2, n_embd=16, initializer_range=0.5
    )
    huggingface.save(tmp_path / "hf", tinyllm.GPT(config, seed=2), tokenizer)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    acc, norm = [], []
    for context, texts, right in map(prompts, rows):
        scores = []
        for choice in texts:
            ids, before = tokenizer.encode(f"{context} {choice}"), len(tokenizer.encode(context))
            with torch.no_grad():
                logp = torch.log_softmax(theirs(torch.tensor([ids])).logits[0].double(), -1)
            scores.append(sum(logp[i - 1, ids[i]].item() for i in range(before, len(ids))))
        acc.append(np.argmax(scores) == right)
        norm.append(np.argmax([s / len(choice.encode("utf-8")) for s, choice in zip(scores, texts)]) == right)
    found = tinyllm.evaluate(tmp_path / "hf", written(tmp_path / "rows.jsonl", rows), batch_size=3)
    assert (found.task, found.n) == ("choice", len(rows))
    assert found.measures["accuracy"].value == np.mean(acc) and found.measures["acc_norm"].value == np.mean(norm)
    assert found.baseline["accuracy"].value == pytest.approx(1 / len(prompts(rows[0])[1]))
    assert [one.reference for one in found.predictions] == [texts[right] for _, texts, right in map(prompts, rows)]


@pytest.mark.parametrize("row", [
    {"ctx": "A", "endings": ["b", "c"], "label": ""}, {"ctx": "A", "endings": ["b", "c"], "label": 2},
    {"question": "A", "choices": {"text": ["b", "c"], "label": ["A", "B"]}, "answerKey": "E"},
    {"question": "A", "choices": ["b"], "answer": 0},
])  # fmt: skip
def test_a_question_without_a_right_answer_is_named(row, tmp_path):
    path = written(tmp_path / "rows.jsonl", [ARC[0] if "choices" in row else {**row, "label": 0}, row])
    with pytest.raises(ValueError, match="rows.jsonl, line 2: it should have ctx, endings and label"):
        read_choices(path)


@pytest.mark.parametrize("unanswered", [False, True])
def test_answers_by_the_rule_of_squad(unanswered, tmp_path):
    context = "The Elm river has a bridge. Anna Berg is the mayor of Elmouth, and the market is on Monday."
    rows = [
        {"id": str(i), "question": f"What is {word}?", "context": context,
         "answers": {"text": [word], "answer_start": [context.index(word)]}}
        for i, word in enumerate(("a bridge", "Anna Berg", "the market is on Monday", "Elmouth"))
    ]  # fmt: skip
    if unanswered:
        rows[1]["answers"] = {"text": [], "answer_start": []}
    path = written(tmp_path / "squad.jsonl", rows)
    tokenizer = WordPieceTokenizer.train(context, 90)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, num_hidden_layers=1, num_attention_heads=2, hidden_size=16, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.6, next_sentence=False, pooler=False, pad_token_id=tokenizer.pad_id,
    )  # fmt: skip
    found = tinyllm.evaluate((BERTForQuestionAnswering(config, seed=1), tokenizer), path)
    assert (found.task, found.n, len(read_squad(path))) == ("qa", 4, 4)
    said = {row["id"]: one.prediction for row, one in zip(rows, found.predictions)}
    expected = metrics.squad(said, {row["id"]: row["answers"]["text"] for row in rows})  # held to SQuAD's script elsewhere
    assert found.measures["f1"].value == pytest.approx(expected["f1"])
    assert found.measures["exact_match"].value == pytest.approx(expected["exact"])
    assert [one.score for one in found.predictions].count(1.0) == expected["exact"] * 4 / 100
    assert found.baseline["f1"].value > 0


def test_questions_are_not_for_a_decoder(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "A", "paragraphs": []}]}), encoding="utf-8")
    model = tinyllm.GPT.tiny(vocab_size=256), ByteTokenizer()
    with pytest.raises(ValueError, match="data for the task qa, and GPT can be evaluated for text"):
        tinyllm.evaluate(model, path)


def test_acc_norm_divides_by_bytes(monkeypatch):
    """The right answer has the larger log-probability per byte, the wrong one per character and as a whole."""
    rows = [{"question": "A", "choices": ["\u00e9\u00e9\u00e9", "abcd"], "answer": 0}]
    monkeypatch.setattr(questions, "token_losses", lambda model, batch: (np.array([[5.0], [4.0]]), None))
    monkeypatch.setattr(questions, "in_batches", lambda rows, size, on_batch: [[0, 1]])
    found = tinyllm.evaluate((tinyllm.GPT.tiny(vocab_size=256), ByteTokenizer()), rows)
    assert (found.measures["accuracy"].value, found.measures["acc_norm"].value) == (0, 1)  # -5 / 6 and -4 / 4
