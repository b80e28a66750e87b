"""What decoders are fine-tuned for beside labels: a text for another, and conversation."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import tinyllm
from tinyllm import kernels
from tinyllm.cli import cli
from tinyllm.data import read_dialogues
from tinyllm.data.text_pairs import read_pairs
from tinyllm.pipelines.text2text import answers, prompt, use_of
from tinyllm.tasks.chat import ChatTask, copied, to_a_reply
from tinyllm.tasks.completion import CompletionTask
from tinyllm.training.config import TrainConfig
from tinyllm.training.run import Run
from tinyllm.training.trainer import Watcher

TINY = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32, "max_position_embeddings": 48}
TINY |= {"tokenizer": "bpe:300", "batch_size": 8, "watcher": Watcher()}
SIZES = {"opt": {**TINY, "ffn_dim": 64}, "llama": {**TINY, "intermediate_size": 64, "num_key_value_heads": 1}}
COLOURS = ("red", "green", "blue", "white", "black", "brown")


@pytest.fixture(autouse=True)
def in_numpy():
    with kernels.use("reference"):
        yield


@pytest.fixture
def forms(tmp_path):
    path = tmp_path / "forms.csv"
    rows = [f'"colour[{c}], name[{n}]",The {n} is {c}.' for c in COLOURS for n in ("cat", "dog", "cup")]
    path.write_text("\n".join(["mr,ref", *rows, rows[0].replace("is", "was")]) + "\n", encoding="utf-8")
    return path


def run(*arguments, fails=False):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_forms_become_sentences(forms, tmp_path):
    out, options = tmp_path / "run", {"max_source": 30, "max_target": 12, "lr": 1e-2}
    tinyllm.train("llama", task="completion", data=[str(forms)], val=[str(forms)], steps=120, eval_every=60, out=out,
                  source=["mr"], target=["ref"], **options, **SIZES["llama"])  # fmt: skip
    measured = [record for record in Run.open(out).metrics if "val_loss" in record]
    assert measured[0]["val_rougeL"] < 0.3 and measured[-1]["val_rougeL"] > 0.8
    model, tokenizer = tinyllm.load(out)
    use = use_of(model, "summar")
    assert (use.suffix, use.max_length) == ("\n=> ", 12)
    said = answers(model, tokenizer, ["colour[red], name[cat]"], use)[0]
    assert said.startswith("The") and run("summarize", out, "colour[red], name[cat]").strip() == said
    assert len((out / "held_out.tsv").read_text(encoding="utf-8").splitlines()) == 19  # a header, and each form once


def test_the_loss_is_on_the_target_and_its_end(forms):
    task = CompletionTask(data=[str(forms)], tokenizer="bpe:300", prefix=["Say: "], max_source=12, max_target=40)
    tokenizer, (pairs, _) = task.make_tokenizer(), task.parts[0]
    one = next(iter(task.examples(tokenizer, pairs, task.use_for(0))))
    assert tokenizer.decode(one.tokens[one.learned]) == pairs.targets[0] + "<|endoftext|>"
    before = one.tokens[~one.learned].tolist()
    assert before == prompt(tokenizer, pairs.sources[0], task.use_for(0))
    assert tokenizer.decode(before).startswith("Say: colour") and tokenizer.decode(before).endswith("\n=> ")
    assert len(before) == 12 + len(tokenizer.encode("\n=> "))


def test_equal_sources_are_one_with_several_references(forms):
    task = CompletionTask(data=[str(forms)], val=[str(forms)])
    together = task.parts[0][1].grouped()
    assert len(together) == 18 and together.references[0] == ("The cat is red.", "The cat was red.")


def test_prompts_that_do_not_fit_are_told(forms):
    with pytest.raises(ValueError, match="need 1[0-9][0-9] tokens together, and this model takes 48"):
        tinyllm.train("opt", task="completion", data=[str(forms)], **SIZES["opt"])
    with pytest.raises(ValueError, match="no token that ends a text"):
        tinyllm.train("opt", task="completion", data=[str(forms)], max_source=8, max_target=8, suffix="name",
                      **{**SIZES["opt"], "tokenizer": "char"})  # fmt: skip


@pytest.fixture
def dialogues(tmp_path):
    path = tmp_path / "dialogues.jsonl"
    talk = [[f"What is {i} and {i}?", f"It is {2 * i}.", "Thanks", "You are welcome."] for i in range(20)]
    path.write_text("\n".join(json.dumps({"turns": turns}) for turns in talk), encoding="utf-8")
    return path


@pytest.mark.parametrize("pack", [True, False])
def test_conversation(dialogues, tmp_path, pack):
    out = tmp_path / "run"
    tinyllm.train("opt", task="chat", data=dialogues, val_data=str(dialogues), steps=60, eval_every=30, pack=pack, lr=1e-2,
                  eval_texts=4, out=out, **SIZES["opt"])  # fmt: skip
    measured = [record for record in Run.open(out).metrics if "val_loss" in record]
    assert measured[-1]["val_perplexity"] < measured[0]["val_perplexity"] / 10
    assert measured[-1]["val_perplexity"] == pytest.approx(np.exp(measured[-1]["val_loss"]))
    assert measured[-1]["val_rougeL"] > max(0.4, measured[0]["val_rougeL"])
    model, tokenizer = tinyllm.load(out)
    assert tokenizer.chat_template and model.config.vocab_size == tokenizer.vocab_size


def test_an_instructed_model_keeps_its_own_format(dialogues, tmp_path):
    out = tmp_path / "run"
    tinyllm.train("opt", task="chat", data=dialogues, steps=1, out=out, **SIZES["opt"])
    model, tokenizer = tinyllm.load(out)
    again, same = tinyllm.train("opt", task="chat", data=dialogues, init=out, steps=1, watcher=Watcher())
    assert again.config.vocab_size == model.config.vocab_size and same.chat_template == tokenizer.chat_template


def test_lora_on_dialogues(dialogues, tmp_path):
    tinyllm.train("llama", task="chat", data=dialogues, steps=1, out=tmp_path / "base", **SIZES["llama"])
    options = {"init": tmp_path / "base", "out": tmp_path / "run", "lora_r": 2, "steps": 2, "watcher": Watcher()}
    model, _ = tinyllm.train("llama", task="chat", data=dialogues, **options)
    assert model.lora is not None and all(".adapters." in p.name for p in model.parameters() if p.trained)
    assert tinyllm.load(tmp_path / "run")[0].lora == model.lora


def test_held_out_dialogues_are_not_learned_from(dialogues):
    task = ChatTask(data=[str(dialogues)], val_fraction=0.2)
    learned, kept = task.parts
    assert (len(learned), len(kept)) == (16, 4)
    assert not {d[0]["content"] for d in learned} & {d[0]["content"] for d in kept}
    model, tokenizer = tinyllm.OPT.tiny(max_position_embeddings=48, vocab_size=300), task.make_tokenizer()
    model = task.fitted(model, tokenizer)
    data = task.open(model, tokenizer, TrainConfig(batch_size=3))
    assert sum(len(batch[0]) for batch in data.held_out()) == 4
    assert len(next(data.batches)) == 4  # tokens, targets, mask, positions: packed


def test_a_reply_in_the_middle_is_asked_for_too():
    talk = [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant", "user")]
    assert [len(to_a_reply(talk, turn)) for turn in range(3)] == [2, 4, 2]
    assert to_a_reply(talk[:1], 0) == []


def test_copying_is_a_baseline():
    dialogue = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "a c"}]
    assert copied([dialogue])["rouge1"] == 0.5


def test_turns_with_speakers(tmp_path, shared_data):
    path = tmp_path / "turns.json"
    turns = [("USER", "Hello"), ("SYSTEM", "Hi."), ("SYSTEM", "What is it?"), ("USER", "Nothing")]
    path.write_text(json.dumps([{"turns": [{"speaker": s, "utterance": u} for s, u in turns]}]), encoding="utf-8")
    assert [(m["role"], m["content"]) for m in read_dialogues(path)[0]] == [
        ("user", "Hello"),
        ("assistant", "Hi. What is it?"),
        ("user", "Nothing"),
    ]
    assert len(read_dialogues(shared_data / "sgd_dialogues/dialogues.json")) == 300


def test_forms_and_letters_say_what_they_are_about():
    forms, replies = read_pairs("forms"), read_pairs("replies")
    assert len(forms) > 2500 and len(set(forms.sources)) == len(forms) and len(replies) > 500
    for form, sentence in zip(forms.sources, forms.targets):
        values = dict(field.rstrip("]").split("[") for field in form.split(", "))
        assert values["name"] in sentence and values["kind"] in sentence and values.get("area", "") in sentence
        assert ("food" in sentence) == ("food" in values) and sentence.endswith(".")
    assert all(reply[0].isupper() for reply in replies.targets)
