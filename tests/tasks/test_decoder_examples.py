"""The examples of the decoders run a few steps on their own data, and end with what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("tell_stories.py", ["--steps", "2", "--prompt", "Line 3"], "--- Line 3"),
        ("forms_and_replies.py", ["--steps", "2"], "kind[pub], name[Bella Vista]\n  ->"),
        ("forms_and_replies.py", ["--steps", "1", "--data", "replies"], "Hello, the clock arrived broken"),
        ("opt_finetuning.py", ["--steps", "2", "--tuning", "2"], "The soup was cold"),
        ("chatbot.py", ["--steps", "2", "--kind", "llama"], "> What does shutil.copy do?"),
    ],
)
def test_example(script, options, said, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLLM_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Line {i} of the file. It has {i} words, all of them short." for i in range(300)), "utf-8")
    data = {"tell_stories.py": ["--data", str(text)], "opt_finetuning.py": ["--text", str(text)]}.get(script, [])
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options, *data, "--out", str(tmp_path / "run")],
        capture_output=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout and list(tmp_path.glob("run/**/run.json"))
