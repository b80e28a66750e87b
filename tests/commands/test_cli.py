"""The command line: quick, helpful, and one line for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import click
import pytest
from click.testing import CliRunner, Result

import tinyllm
from tinyllm import cli, tasks
from tinyllm.commands import options
from tinyllm.data import DATASETS
from tinyllm.data.registry import Dataset
from tinyllm.training.run import Run

TINY = [
    "--n-layer",
    "1",
    "--n-head",
    "2",
    "--n-embd",
    "8",
    "--n-positions",
    "8",
    "--batch-size",
    "2",
    "--sample-tokens",
    "0",
]


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(arg) for arg in args])


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat, and the mat lay on the floor.\n" * 40, encoding="utf-8")
    return path


# The group -------------------------------------------------------------------------------------------------------------


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from tinyllm import cli; cli.cli(['--help'], standalone_mode=False);"
        "heavy = {'numba', 'rich', 'matplotlib', 'safetensors', 'tokenizers'} & set(sys.modules); assert not heavy, heavy;"
        "assert not [name for name in sys.modules if name.startswith('tinyllm.commands')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS)
    done = subprocess.run([sys.executable, "-m", "tinyllm", "--version"], capture_output=True, text=True)
    assert done.stdout == f"tinyllm {tinyllm.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0 and "Usage:" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = run("trian")
    assert result.exit_code == 2 and "No such command 'trian': did you mean train?" in result.stderr
    assert "there are train, finetune" in run("xyzzy").stderr
    assert run().exit_code in (0, 2) and "Usage:" in run().output


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["train", "gtp"], "gpt"), (["finetune", "brt"], "bert"), (["data", "fetsh", "x"], "fetch"),
        (["train", "gpt", "--preset", "qick"], "quick"), (["finetune", "gpt", "--task", "chta"], "chat"),
        (["train", "gpt", "--step", "5"], "--steps"), (["train", "gpt", "--schedule", "cosin"], "cosine"),
        (["train", "gpt", "--data", "tinyshakespear"], "tinyshakespeare"), (["data", "fetch", "multi3k"], "multi30k"),
        (["gradcheck", "lama"], "llama"),
    ],
)  # fmt: skip
def test_the_nearest_name_is_proposed(args: list[str], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = " ".join(run(*args).stderr.split()).lower()
    assert meant in said.partition("did you mean")[2], said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tinyllm tr", "train"), ("tinyllm train g", "gpt"), ("tinyllm train gpt --preset n", "nano"),
        ("tinyllm finetune gpt --task cha", "chat"), ("tinyllm finetune gpt --task chat --eval-t", "--eval-texts"),
        ("tinyllm data fe", "fetch"), ("tinyllm nonsense x", ""),
    ],
)  # fmt: skip
def test_the_shell_completes(words: str, expected: str) -> None:
    """As click's scripts ask it to (README says how they are installed)."""
    asked = {"_TINYLLM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    result = CliRunner().invoke(cli.cli, [], env=asked, prog_name="tinyllm", complete_var="_TINYLLM_COMPLETE")
    assert [line.partition(",")[2] for line in result.output.splitlines()][:1] == [expected]


def test_an_error_names_options_as_they_are_typed() -> None:
    ctx = click.Context(click.Command("it"))
    ctx.meta[cli.PARAMETERS] = [click.Option(["--batch-size"]), click.Option(["--lr"]), click.Option(["--clip"])]
    for message, shown in [
        ("batch_size is 0", "--batch-size is 0"),
        ('"lr" is inf, and must be a finite number', "--lr is inf, and must be a finite number"),
        ("lr must be above 0", "--lr must be above 0"),
        ("Try a lower lr (it is 3), or clip=1", "Try a lower lr (it is 3), or --clip 1"),
        (
            "runs/batch_size/x and a_batch_size and batch_size.txt stay",
            "runs/batch_size/x and a_batch_size and batch_size.txt stay",
        ),
        ("give --batch-size", "give --batch-size"),
        ("batch_size is 0, and must be 1 or more, or None", "--batch-size is 0, and must be 1 or more"),
    ]:
        assert cli.as_typed(message, ctx) == shown
    assert cli.message_of(OSError(28, "No space left on device", "a/file")) == "a/file: No space left on device"


@pytest.mark.parametrize("error", [ValueError("seven is too many"), OSError("the disk is full"), FloatingPointError("NaN")])
def test_a_users_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: broken)
    result = run("info")
    assert result.exit_code == 1 and result.stdout == "" and result.stderr == f"Error: {error}\n"
    assert run("--debug", "info").exception is error
    monkeypatch.setenv("TINYLLM_DEBUG", "1")
    assert run("info").exception is error


def test_our_own_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: broken)
    assert isinstance(run("info").exception, KeyError)


# Options from a dataclass ----------------------------------------------------------------------------------------------


@dataclass
class Options:
    """A documentation string: with a colon, and # a mark."""

    model: Path  # where it is

    # Sampling
    temperature: float = 0.8  # 0 is greedy
    top_k: int | None = None  # of the likeliest
    mode: Literal["fast", "slow"] = "fast"  # how
    stop: list[str] = field(default_factory=list)  # ends the text

    # Output
    stream: bool = True  # as it comes
    size: tuple[int, float] = (1, 2.0)
    secret: dict | None = None  # no option

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError("temperature must not be negative")


def called(*args: str) -> Options:
    made = options.command(Options)(lambda got: seen.append(got))
    seen: list[Options] = []
    result = CliRunner().invoke(made, args)
    if result.exception and result.exit_code != 2:
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return seen[0]


def test_options_become_fields() -> None:
    assert called("here") == Options(Path("here"))
    given = [
        "--temperature",
        "0",
        "--top-k",
        "5",
        "--mode",
        "slow",
        "--stop",
        "a",
        "--stop",
        "b",
        "--no-stream",
        "--size",
        "3",
        "4",
    ]
    assert called("here", *given) == Options(Path("here"), 0.0, 5, "slow", ["a", "b"], False, (3, 4.0))
    with pytest.raises(ValueError, match="must not be negative"):
        called("here", "--temperature", "-1")


@pytest.mark.parametrize("args", [[], ["here", "--top-k", "x"], ["here", "--mode", "odd"], ["here", "--secret", "1"]])
def test_options_of_the_wrong_type_are_usage_errors(args: list[str]) -> None:
    made = options.command(Options)(lambda got: None)
    assert CliRunner().invoke(made, args).exit_code == 2


def test_every_command_takes_threads(text: Path, tmp_path: Path) -> None:
    """In a process of its own: the pool has its size once."""
    code = "import sys; from tinyllm.cli import cli; cli(sys.argv[1:], standalone_mode=False); import numba; "
    code += "print('threads', numba.get_num_threads())"
    command = ["train", "gpt", "--threads", "1", "--data", str(text), "--steps", "1", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "TINYLLM_CACHE": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    tiny = "--n-layer 1 --n-head 1 --n-embd 8 --n-positions 8 --tokenizer char --sample-tokens 0".split()
    answer = subprocess.run([sys.executable, "-c", code, *command, *tiny], capture_output=True, text=True, env=environment)
    assert answer.stdout.endswith("threads 1\n"), answer.stderr
    wrong = CliRunner().invoke(cli.cli, ["generate", "--threads", "0", "model"])
    assert wrong.exit_code == 1 and "the number of threads is 0; pass 1 or more" in wrong.output


def test_help_comes_from_the_comments() -> None:
    made = options.command(Options, examples="tinyllm it here")(lambda got: None)
    made.help = "Does it."
    lines = [" ".join(line.split()) for line in CliRunner().invoke(made, ["--help"]).output.splitlines()]
    sampling, output = lines.index("Sampling:"), lines.index("Output:")
    assert lines.index("Arguments:") < lines.index("MODEL Where it is.") < sampling < output < lines.index("Examples:")
    assert sampling < lines.index("--temperature FLOAT 0 is greedy. [0.8]") < output
    assert "--top-k INTEGER Of the likeliest." in lines and "--stop TEXT Ends the text." in lines
    assert output < lines.index("--stream / --no-stream As it comes. [on]")
    assert "--size <INTEGER FLOAT>... [1 2.0]" in lines or any(
        line.startswith("--size") and "[1 2.0]" in line for line in lines
    )


# Commands --------------------------------------------------------------------------------------------------------------


def test_train_and_resume(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(
        "train", "gpt", "--data", text, "--out", out, "--steps", 3, "--betas", 0.8, 0.9, "--tokenizer", "bytes", *TINY
    )
    assert result.exit_code == 0, result.output
    assert (
        "step 1/3" in result.output
        and "step 3  loss" in result.output
        and "val loss" in result.output
        and f"tinyllm generate {out}" in result.output
    )
    config = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert config["train"]["betas"] == [0.8, 0.9] and config["train"]["clip"] == 1.0 and config["model"]["n_embd"] == 8
    assert (out / "loss.png").exists()
    assert run("train", "--resume", out, "--steps", 5).exit_code == 0
    assert [record["step"] for record in Run.open(out).metrics][-2:] == [5, 5]
    model, tokenizer = tinyllm.load(out)
    assert model.config.n_embd == 8 and tokenizer.vocab_size == 257


def test_train_without_plots_says_what_to_install(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"] + ["matplotlib.figure"]:
        monkeypatch.setitem(sys.modules, name, None)
    result = run("train", "gpt", "--data", text, "--out", tmp_path / "run", "--steps", 1, *TINY)
    assert result.exit_code == 0 and 'pip install "tinyllm-numpy[plots]"' in result.output


def test_train_names_its_directory(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run("train", "gpt", "--data", text, "--steps", 1, *TINY).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["gpt-1", "gpt-2"]


def test_train_help_tells_presets_and_defaults() -> None:
    output = " ".join(run("train", "gpt", "--help").output.split())
    assert (
        "--n-layer INTEGER [4; with --init: the model's own]" in output
        and "[quick|nano|baby|gpt2]" in output
        and "Examples:" in output
    )
    assert "vocab-size" not in output
    assert "--resume" in run("train").output


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_every_preset_makes_a_configuration(kind: str) -> None:
    from tinyllm.recipes import plan

    for preset in tasks.KINDS[kind].presets:
        assert plan(kind, None, preset, None, {})["preset"] == preset


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["train", "--steps", "5", "gpt"], 2, "come after its kind"),
        (["train", "gpt", "--steps", "five"], 2, "five"),
        (["train", "gpt", "--preset", "huge"], 2, "huge"),
        (["train", "gpt", "--data", "nowhere.txt"], 1, "nowhere.txt"),
        (["train", "gpt", "--lr", "-1"], 1, "lr must be above 0"),
        (["train", "gpt", "--val-fraction", "2"], 1, "--val-fraction is 2.0"),
        (["train", "gpt", "--data", ""], 1, "a name is empty"),
        (["train", "gpt", "--init", ""], 2, "'--init': it is empty"),
        (["train", "--resume", ""], 2, "'--resume': it is empty"),
        (["generate", ""], 2, "'MODEL': it is empty"),
        (["gradcheck", "gtp"], 2, "'MODEL': 'gtp' is not one of"),
        (["gradcheck", "gpt", "--samples", "0"], 2, "--samples"),
        (["train", "--resume", "nowhere"], 1, "nowhere is no training run"),
        (["data", "path", "tinyshakespear"], 1, "did you mean tinyshakespeare"),
    ],
)
def test_mistakes(args: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == code and message in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_data_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path))
    output = run("data", "list").output
    assert all(name in output for name in DATASETS) and "1.1 MB" in output
    monkeypatch.setitem(DATASETS, "empty", Dataset("empty", "nothing", "testing", "none", ()))
    assert run("data", "fetch", "empty").output.strip() == run("data", "path", "empty").output.strip()


def test_info() -> None:
    result = run("info")
    assert result.exit_code == 0
    for name in ("tinyllm", "Python", "numba", "processor", "vector units", "threading layer", "kernel cache", "CUDA"):
        assert any(line.startswith(name) for line in result.output.splitlines()), name


def test_info_tells_what_cuda_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyllm.kernels.cuda import device

    monkeypatch.setenv("TINYLLM_DEVICE", "emulated")
    assert "emulated on this processor" in run("info").output
    monkeypatch.setenv("TINYLLM_DEVICE", "gpu")

    def nothing() -> None:
        raise RuntimeError("CUDA needs CuPy")

    monkeypatch.setattr(device, "cupy", nothing)
    assert "no: CUDA needs CuPy" in run("info").output
    runtime = SimpleNamespace(
        driverGetVersion=lambda: 13000, getDeviceCount=lambda: 1, getDeviceProperties=lambda i: {"name": b"H200"},
        memGetInfo=lambda: (3 << 30, 141 << 30),
    )  # fmt: skip
    fake = SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(runtime=runtime, Device=lambda i: nullcontext()))
    monkeypatch.setattr(device, "cupy", lambda: fake)
    output = run("info").output
    assert "CuPy 14.2.0, driver for CUDA 13.0" in output and "H200, 3.0 of 141.0 GiB free" in output
