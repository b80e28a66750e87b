"""English prose out of technical text: whole sentences, without the tables, banners and examples between them."""

import re
from collections.abc import Iterator

SHORTEST = 25  # characters: what is shorter is a heading or a note
LETTERS = 0.88  # the least share of letters and spaces in a paragraph
NOT_PROSE = re.compile(r"[^\w\s.]{3,}|\.{4,}|>>>|\t")  # a banner, a row of dots, a prompt, a column


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of `text` that are English sentences, each on one line.

    A paragraph ends at an empty line. It is prose if its lines after the first are indented alike, if it begins with a
    capital and ends like a sentence, and if nearly all of it is letters and spaces.
    """
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.strip("\n").split("\n")
        indents = {len(line) - len(line.lstrip()) for line in lines[1:]}
        paragraph = " ".join(block.split())
        if len(indents) <= 1 and _is_prose(paragraph):
            yield paragraph


def _is_prose(paragraph: str) -> bool:
    if len(paragraph) < SHORTEST or not paragraph[0].isupper() or paragraph[-1] not in ".!?":
        return False
    letters = sum(character.isalpha() or character.isspace() for character in paragraph)
    return letters >= LETTERS * len(paragraph) and not NOT_PROSE.search(paragraph)
