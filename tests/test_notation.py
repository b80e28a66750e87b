"""The symbols of blogs/notation.md, and the equation numbers that docstrings and pages refer to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOGS = sorted((ROOT / "blogs").glob("*.md"))
NOTATION = ROOT / "blogs" / "notation.md"

TAG = re.compile(r"\\tag\{([^}]*)\}")
NUMBERS = r"(?:\(\d+\)(?:\s*(?:,|and|or|to)\s*)?)+"
# gpt.md (10), or a list: gpt.md (10), (11) and (13), or a range: gpt.md (14) to (17)
REFERENCE = re.compile(rf"(\w+)\.md\s+({NUMBERS})")
MATH = re.compile(r"\$[^$]+\$")


def tags(page):
    return TAG.findall(page.read_text(encoding="utf-8"))


def references(text):
    """The (page, number) of each equation that a text refers to. A reference may go over the end of a line."""
    text = re.sub(r"\s*\n\s*(?:#|//)?\s*", " ", text)
    for page, numbers in REFERENCE.findall(text):
        found = [int(number) for number in re.findall(r"\((\d+)\)", numbers)]
        if " to " in numbers:
            found = range(found[0], found[-1] + 1)
        for number in found:
            yield page, number


def tables():
    """The tables of notation.md: for each, the cells of its header and of its rows."""
    for block in re.findall(r"(?:^\|.*\|\n)+", NOTATION.read_text(encoding="utf-8"), re.M):
        # a bar inside of a formula is not the end of a cell
        lines = [MATH.sub(lambda math: math[0].replace("|", "\0"), line) for line in block.splitlines()]
        cells = [[cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines]
        yield cells[0], cells[2:]


def symbols(cell):
    """The symbols of a cell such as `$q, k, v$` or `$(N)$, $(B, H, T)$`."""
    return [symbol.strip() for math in MATH.findall(cell) for symbol in math.strip("$").split(",")]


def test_every_row_of_the_table_has_a_symbol_a_meaning_and_a_place():
    rows = 0
    for header, body in tables():
        assert header[0] == "symbol" and header[-1] == "first used", header
        for row in body:
            assert len(row) == len(header), row
            cells = dict(zip(header, row))
            assert symbols(cells["symbol"]) and MATH.sub("", cells["symbol"]) in ("", ", "), row
            assert all(name in cells["code"] for name in re.findall(r"`[^`]+`", cells.get("code", ""))), row
            assert cells.get("what") or cells.get("runs over"), row
            assert re.fullmatch(r"\[\w+\.md\]\(\w+\.md#[\w-]+\)", cells["first used"]), row
            rows += 1
    assert rows > 50


def test_no_symbol_has_two_rows():
    seen = [symbol for _, body in tables() for row in body for symbol in symbols(row[0])]
    assert not {symbol for symbol in seen if seen.count(symbol) > 1}


def test_no_code_name_has_two_rows():
    cells = [row[1] for header, body in tables() if "code" in header for row in body]
    seen = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert not {name for name in seen if seen.count(name) > 1}


def slug(title):
    """The anchor that a Markdown heading gets."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_links_of_the_table_lead_to_a_section_that_uses_the_symbol():
    for _, body in tables():
        for row in body:
            page, anchor = re.search(r"\((\w+\.md)#([\w-]+)\)", row[-1]).groups()
            text = (ROOT / "blogs" / page).read_text(encoding="utf-8")
            sections = re.split(r"^## (.*)\n", text, flags=re.M)
            contents = {slug(title): content for title, content in zip(sections[1::2], sections[2::2])}
            assert anchor in contents, row
            # the letter, and not a part of a command or of a longer name
            letter = re.escape(symbols(row[0])[0].replace(r"\cdot", "").split()[0])
            assert re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", contents[anchor]), row


@pytest.mark.parametrize("page", BLOGS, ids=lambda path: path.stem)
def test_equations_of_a_page_are_numbered_in_order_without_a_gap(page):
    assert tags(page) == [str(number + 1) for number in range(len(tags(page)))]


@pytest.mark.parametrize("page", BLOGS, ids=lambda path: path.stem)
def test_every_display_formula_has_a_number(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    formulas = re.findall(r"^\$\$\n(.*?)^\$\$", text, re.M | re.S)
    assert all(len(TAG.findall(formula)) == 1 for formula in formulas)


def test_references_are_found_singly_in_lists_in_ranges_and_over_lines():
    text = "as gpt.md (10), (11) derives it; bert.md (2)\n    and (3); // t5.md (14) to\n    // (16). gpt.md, section (3)"
    expected = [("gpt", 10), ("gpt", 11), ("bert", 2), ("bert", 3), ("t5", 14), ("t5", 15), ("t5", 16)]
    assert list(references(text)) == expected


def sources():
    """The files of the two packages, and the pages."""
    files = [file for folder in ("kernels", "tinyllm") for file in sorted((ROOT / folder).rglob("*.py"))]
    return files + sorted((ROOT / "kernels").rglob("*.cu*")) + BLOGS


def test_equations_that_are_referred_to_exist():
    """In docstrings and comments, and from one page to another."""
    missing = []
    for file in sources():
        for page, number in references(file.read_text(encoding="utf-8")):
            target = ROOT / "blogs" / f"{page}.md"
            if not target.exists() or str(number) not in tags(target):
                missing.append(f"{file.relative_to(ROOT)}: {page}.md ({number})")
    assert not missing


@pytest.mark.parametrize("page", BLOGS, ids=lambda path: path.stem)
def test_equations_of_its_own_that_a_page_refers_to_exist(page):
    text = re.sub(r"^```.*?^```|^\$\$.*?^\$\$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = REFERENCE.sub("", MATH.sub("", re.sub(r"\s*\n\s*", " ", text)))
    numbers = re.findall(r"(?<![\w\]])\((\d{1,2})\)", text)
    assert not [number for number in numbers if number not in tags(page)]
