"""The blogs' code runs, from top to bottom, and prints what the page says that it prints.

A block that begins with ```python needs emulator is left out where the CUDA emulator cannot run; the test is then a skip.
"""

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

from tinyllm.kernels.cuda.emulator.loader import require_compiler

BLOGS = sorted((Path(__file__).parent.parent / "blogs").glob("*.md"))
BLOCK = re.compile(r"^```python(?: needs (emulator))?\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.M | re.S)


@pytest.mark.parametrize("blog", BLOGS, ids=lambda path: path.stem)
def test_code_runs_and_prints_what_the_page_says(blog, monkeypatch):
    monkeypatch.setenv("TINYLLM_DEVICE", os.environ.get("TINYLLM_DEVICE", "gpu"))  # a block may change it: set back
    text = blog.read_text(encoding="utf-8")
    namespace, left_out = {"__name__": "blog"}, []
    for match in BLOCK.finditer(text):
        needs, code, expected = match.groups()
        line = text[: match.start(2)].count("\n")
        if needs:
            try:
                require_compiler()
            except RuntimeError as error:
                left_out.append(f"line {line}: {error}")
                continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, str(blog), "exec"), namespace)
        if expected is not None:
            assert printed.getvalue().strip("\n") == expected.strip("\n"), f"line {line} of {blog.name}"
    if left_out:
        pytest.skip("all blocks ran but those at " + "; ".join(left_out))


@pytest.mark.parametrize("blog", BLOGS, ids=lambda path: path.stem)
def test_links_and_figures_are_there(blog):
    for target in re.findall(r"\]\(([^)#:]+)\)", blog.read_text(encoding="utf-8")):
        assert (blog.parent / target).exists(), target
