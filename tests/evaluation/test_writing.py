"""Texts that a model writes: BLEU and chrF equal sacrebleu's, ROUGE rouge-score's, with several references for a source."""

import json

import numpy as np
import pytest
from parity import peers

import tinyllm
from tinyllm import huggingface, kernels
from tinyllm.data.forms import MADE
from tinyllm.evaluation import Settings
from tinyllm.evaluation.writing import chosen_use, text_measures
from tinyllm.generation import chat
from tinyllm.generation.decoding import generate
from tinyllm.models import T5, T5Config
from tinyllm.pipelines import text2text
from tinyllm.tokenizers import BPETokenizer, UnigramTokenizer

TEXTS = ("the cat sat on the mat", "a dog runs through the snow.", "where is the old bridge?", "nobody knows it", "the mat")
WRITTEN = ("the cat is on the mat", "A dog runs in the snow .", "where is the bridge?", "", "the mat")


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


def several():
    """References for each text: one, two, three."""
    return [tuple(TEXTS[(i + j) % 5] for j in range(1 + i % 3)) for i in range(5)]


@pytest.mark.parametrize("references", [[(text,) for text in TEXTS], several()])
def test_bleu_chrf_and_rouge_are_the_official_ones(references):
    sacrebleu = pytest.importorskip("sacrebleu", reason="compares with sacrebleu")
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="compares with rouge-score")
    got = {name: one.result for name, one in text_measures(WRITTEN, references).items()}
    most = max(map(len, references))
    streams = [[group[j] if j < len(group) else None for group in references] for j in range(most)]
    for name, metric in {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF()}.items():
        assert got[name] == pytest.approx(metric.corpus_score(WRITTEN, streams).score)
    rouge = scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rouge2", "rougeL"):
        scores = [rouge.score_multi(list(group), text)[name].fmeasure for group, text in zip(references, WRITTEN)]
        assert got[name] == pytest.approx(np.mean(scores))


@pytest.fixture
def t5():
    tokenizer = UnigramTokenizer.train(TEXTS * 3, 140)
    config = T5Config(
        vocab_size=tokenizer.vocab_size, d_model=16, d_kv=8, num_heads=2, d_ff=32, num_layers=1, dropout_rate=0.0,
        eos_token_id=tokenizer.eos_id, pad_token_id=tokenizer.pad_id, decoder_start_token_id=tokenizer.pad_id,
        task_specific_params={"summarization": {"prefix": "summarize: ", "max_length": 8, "num_beams": 1}},
    )  # fmt: skip
    return T5(config, seed=1), tokenizer


@pytest.fixture
def table(tmp_path):
    rows = [(TEXTS[i % 3], TEXTS[(i + 1) % 5]) for i in range(7)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"article": a, "summary": b}) + "\n" for a, b in rows), encoding="utf-8")
    return path


def test_references_of_one_source_are_grouped(t5, table):
    sacrebleu = pytest.importorskip("sacrebleu", reason="compares with sacrebleu")
    found = tinyllm.evaluate(t5, table)
    assert (found.task, found.n, found.baseline_name) == ("summarization", 3, "the first sentence")
    assert [one.input for one in found.predictions] == [*TEXTS[:3]]
    references = [one.reference if isinstance(one.reference, list) else [one.reference] for one in found.predictions]
    assert [len(group) for group in references] == [3, 2, 2]
    streams = [[group[j] if j < len(group) else None for group in references] for j in range(3)]
    metric = sacrebleu.BLEU()
    assert found.measures["bleu"].value == metric.corpus_score([one.prediction for one in found.predictions], streams).score
    assert found.notes["bleu_signature"] == str(metric.get_signature()).rpartition("|version:")[0]
    metric = sacrebleu.CHRF()
    metric.corpus_score([""] * 3, streams)
    assert found.notes["chrf_signature"] == str(metric.get_signature()).rpartition("|version:")[0]


def test_the_loss_of_references_is_that_of_transformers(t5, table, tmp_path):
    torch, transformers = peers()
    huggingface.save(tmp_path / "hf", *t5)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()
    tokenizer, total, count = t5[1], 0.0, 0
    for row in map(json.loads, table.read_text(encoding="utf-8").splitlines()):
        source = [*tokenizer.encode("summarize: " + row["article"]), tokenizer.eos_id]
        target = [*tokenizer.encode(row["summary"])[:7], tokenizer.eos_id]
        with torch.no_grad():
            total += theirs(torch.tensor([source]), labels=torch.tensor([target])).loss.item() * len(target)
        count += len(target)
    found = tinyllm.evaluate(t5, table)
    assert found.measures["loss"].value == pytest.approx(total / count, rel=1e-5)


def test_a_decoder_completes_or_replies(monkeypatch):
    tokenizer = BPETokenizer.train(" ".join(TEXTS), 280)
    config = tinyllm.GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=48, n_layer=1, n_head=2, n_embd=16)
    model = tinyllm.GPT(config, seed=1)
    rows = [{"question": text, "answer": TEXTS[-1]} for text in TEXTS]
    assert tinyllm.evaluate((model, tokenizer), rows, max_length=5).task == "completion"
    model = chat.extend(model, tokenizer)
    asked = []
    monkeypatch.setattr(text2text, "generate", lambda *args, **how: asked.append(how["eos_id"]) or generate(*args, **how))
    found = tinyllm.evaluate((model, tokenizer), rows, max_length=20)
    assert (found.task, found.n, found.unit) == ("chat", 5, "dialogue")
    talk = chat.Chat(model, tokenizer, max_new_tokens=20, temperature=0.0)
    for one, text in zip(found.predictions, TEXTS):
        talk.reset()
        assert one.prediction == "".join(talk.reply(text)).strip()
    examples = chat.examples(tokenizer, [chat_of(row) for row in rows], 48)
    total = count = 0
    for tokens, targets, mask in tinyllm.data.examples_pass(examples, 1):
        real = int((targets != -100).sum())
        total, count = total + model.loss(tokens, targets, attention_mask=mask) * real, count + real
    assert found.measures["loss"].value == pytest.approx(total / count, rel=1e-6)
    assert {*chat.chat_format(tokenizer).ends} <= {*asked[0]}
    copied = text_measures([row["question"] for row in rows], [(row["answer"],) for row in rows])
    assert found.baseline["rouge1"].value == copied["rouge1"].result


def chat_of(row):
    return [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]


def test_the_names_of_made_pairs_are_pairs(t5):
    assert "forms" in MADE
    found = tinyllm.evaluate(t5, "forms", limit=2, max_length=3)
    assert found.task == "summarization" and found.n == 2


def test_of_several_tasks_one_is_meant(t5):
    model, tokenizer = t5
    uses = {
        f"translation_en_to_{to}": {"prefix": f"translate English to {to}: ", "max_length": n}
        for to, n in (("de", 3), ("fr", 5))
    }
    model = model.with_config(task_specific_params={**model.config.task_specific_params, **uses})
    lengths = {
        chosen_use(model, task, Settings(**given)).max_length
        for task, given in (
            ("translation", {"source": "en", "target": "de"}), ("text2text", {"prefix": "translate English to de: "}),
            ("text2text", {"source": "en", "target": "de"}),
        )
    }  # fmt: skip
    assert lengths == {3} and chosen_use(model, "summarization", Settings()).max_length == 8
    assert chosen_use(model, "translation", Settings(prefix="to fr: ", max_length=9)).prefix == "to fr: "
    rows = [{"source": TEXTS[0], "target": TEXTS[1]}]
    with pytest.raises(ValueError, match="several such tasks, summarization with the prefix"):
        tinyllm.evaluate((model, tokenizer), rows)


def test_two_files_whose_lines_belong_together(t5, tmp_path):
    for side, texts in (("en", TEXTS), ("de", WRITTEN)):
        (tmp_path / f"test.{side}").write_text("\n".join(texts) + "\n", encoding="utf-8")
    found = tinyllm.evaluate(t5, str(tmp_path / "test"), source="en", target="de", max_length=3)
    assert found.n == 4 and [one.input for one in found.predictions] == [*TEXTS[:3], TEXTS[4]]  # one target is empty
