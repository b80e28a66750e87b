"""The blogs' code runs, from top to bottom, and prints what the page says that it prints."""

import contextlib
import io
import re
from pathlib import Path

import pytest

BLOGS = sorted((Path(__file__).parent.parent / "blogs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.M | re.S)


@pytest.mark.parametrize("blog", BLOGS, ids=lambda path: path.stem)
def test_code_runs_and_prints_what_the_page_says(blog):
    text = blog.read_text(encoding="utf-8")
    namespace = {"__name__": "blog"}
    for match in BLOCK.finditer(text):
        code, expected = match.groups()
        line = text[: match.start(1)].count("\n")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, str(blog), "exec"), namespace)
        if expected is not None:
            assert printed.getvalue().strip("\n") == expected.strip("\n"), f"line {line} of {blog.name}"


@pytest.mark.parametrize("blog", BLOGS, ids=lambda path: path.stem)
def test_links_and_figures_are_there(blog):
    for target in re.findall(r"\]\(([^)#:]+)\)", blog.read_text(encoding="utf-8")):
        assert (blog.parent / target).exists(), target
