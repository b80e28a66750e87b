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

ROOT = Path(__file__).parent.parent
BLOGS = sorted((ROOT / "blogs").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", ROOT / "examples" / "one_file" / "README.md"]
PAGES = [*BLOGS, *(readme for readme in READMES if readme.exists())]
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)")  # (file), (file#heading) or (#heading), not a URL
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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_figures_are_there(page):
    for file, heading in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {file}, which does not exist: correct the path"
        assert not heading or heading in anchors(target), f"{page.name} links to {file}#{heading}: no heading has that name"


def anchors(page):
    """The names by which links find the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
