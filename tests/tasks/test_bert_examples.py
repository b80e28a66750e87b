"""The examples of BERT run a few steps on their own data, and end with what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("bert_pretraining.py", ["--steps", "2", "--gap", "a [MASK] of words"], "a [MASK] of words"),
        ("bert_sentiment.py", ["--epochs", "0.02"], "The soup was a delight."),
        ("bert_spam.py", ["--epochs", "0.02", "--balance"], "Claim it now"),
        ("bert_questions.py", ["--epochs", "0.05"], "Who is the mayor of Brunnford?"),
    ],
)
def test_example(script, options, said, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Line {i} of the file. It has {i} words, all of them short." for i in range(300)), "utf-8")
    data = ["--data", str(text)] if script == "bert_pretraining.py" else []
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options, *data, "--out", str(out)],
        capture_output=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout and "step" in done.stdout and (out / "run.json").exists()
