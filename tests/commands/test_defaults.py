"""What --help shows as defaults is what a run uses, and a run says what was chosen and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from tinyllm import cli, tasks
from tinyllm.commands.options import Alternatives, bracketed
from tinyllm.commands.train import _defaults_shown
from tinyllm.recipes import classes_of, plan

CASES = {"": {}, "with --init": {"init": "model"}, "with --lora-r": {"init": "model", "lora_r": 4}}
COMMANDS = [(name, task) for name, kind in tasks.KINDS.items() for task in (None, *kind.tasks)]


def shown_for(value: object, case: str) -> object:
    """What a reader takes from the alternatives for a case: the last one that applies."""
    assert isinstance(value, Alternatives)
    order = list(CASES)
    return [one for name, one in value if order.index(name) <= order.index(case)][-1]


@pytest.mark.parametrize(("name", "task"), COMMANDS)
@pytest.mark.parametrize("preset", ["the default one", "the last one"])
@pytest.mark.parametrize("case", CASES)
def test_the_defaults_shown_are_those_that_are_used(name: str, task: str | None, preset: str, case: str) -> None:
    kind = tasks.KINDS[name]
    chosen = None if preset == "the default one" else list(kind.presets)[-1]
    given = dict(CASES[case])
    config = plan(name, task, chosen, given.pop("init", None), given)
    shown = _defaults_shown(kind, kind.task_named(task), chosen, init=False)
    for part, cls in classes_of(kind, kind.task_named(task)).items():
        for field in dataclasses.fields(cls):
            expected = config[part].get(field.name, field.default)
            if part == "model" and case:
                assert field.name not in config["model"] and shown_for(shown[field.name], case) == "the model's own"
            elif field.name not in given and expected is not dataclasses.MISSING:
                assert shown_for(shown[field.name], case) == expected, field.name


def help_of(*args: str) -> str:
    return " ".join(CliRunner().invoke(cli.cli, [*args, "--help"]).output.split())


def test_help() -> None:
    """The faults that were reported: each showed what no run used."""
    assert "--lr FLOAT Learning rate at its highest. [0.0015; with --init: 5e-05; with --lora-r: 0.0002]" in help_of(
        "finetune", "bert", "--task", "classification"
    )
    llama = help_of("finetune", "llama", "--task", "completion")
    assert "--hidden-size INTEGER Channels, C. [128; with --init: the model's own]" in llama
    assert "target. ['\\n=> ']" in llama and "accumulate INTEGER" in llama
    assert llama.index("--task [") < llama.index("--preset [")
    assert "--n-layer INTEGER [6; with --init: the model's own]" in help_of("train", "gpt", "--preset", "baby")
    assert "--n-layer INTEGER [the model's own]" in help_of("train", "gpt", "--init", "runs/x")
    assert "[None]" not in help_of("finetune", "gpt", "--task", "chat")


def test_nothing_is_multiplied_behind_the_users_back() -> None:
    for name, kind in tasks.KINDS.items():
        for task in (None, *kind.tasks):
            config = plan(name, task, None, "model", {"batch_size": 4})
            assert (config["train"]["batch_size"], config["train"]["accumulate"]) == (4, 1), (name, task)
    assert plan("gpt", None, None, "model", {})["train"]["lr"] == 3e-4
    assert plan("gpt", None, None, "model", {"lora_r": 8})["train"]["lr"] == 2e-4
    assert plan("gpt", "chat", None, "model", {"lora_r": 8, "lr": 1e-5})["train"]["lr"] == 1e-5


def test_values_as_they_are_shown() -> None:
    assert [bracketed(value) for value in (None, "", [], True, 3, (1, 2.5), "\n=> ", " a", "a b")] == [
        "", "", "", "[on]", "[3]", "[1 2.5]", "['\\n=> ']", "[' a']", "[a b]",
    ]  # fmt: skip
    assert bracketed(Alternatives([("", None), ("with --init", 8)])) == "[with --init: 8]"


def test_a_run_says_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("the cat sat on the mat.\n" * 40, encoding="utf-8")
    sizes = "--n-layer 1 --n-head 2 --n-embd 8 --n-positions 8 --tokenizer char --sample-tokens 0".split()
    tiny = [*sizes, "--batch-size", "2", "--steps", "1"]
    args = ["train", "gpt", "--data", str(tmp_path / "text.txt"), *tiny, "--out", str(tmp_path / "run")]
    said = " ".join(CliRunner().invoke(cli.cli, args).output.split())
    assert "the preset quick, because neither preset nor init is given. The model begins from nothing. lr 0.003" in said
    assert "batch_size 2 x accumulate 1" in said and "Given: " in said and "n_layer 1" in said
    assert said.index("reading the data") < said.index("making the tokenizer")
    args = ["train", "gpt", "--init", str(tmp_path / "run"), "--data", str(tmp_path / "text.txt"), "--steps", "1"]
    said = " ".join(CliRunner().invoke(cli.cli, [*args, "--lora-r", "2", "--out", str(tmp_path / "two")]).output.split())
    assert "those for fine-tuning. The model goes on from" in said and "lr 0.0002" in said and "LoRA of rank 2" in said
    assert "of which" in said and "are trained" in said
