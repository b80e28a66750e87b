"""Prose out of technical text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.prose import paragraphs

PAGE = """
Return the path of a file.
It may not exist yet.

    Indented as a whole, this is one too,
    and it goes on here.

==========
A heading
==========

Name      Value     What it is for here and there.
-----     -----     ------------------------------

>>> example(1) of a call that is long enough.

Parameters that follow, one a line:
    a     the first one
  b     the second one.

a sentence that begins without a capital is a note.

Too short.
"""


def test_sentences_stay_and_the_rest_goes() -> None:
    assert list(paragraphs(PAGE)) == [
        "Return the path of a file. It may not exist yet.",
        "Indented as a whole, this is one too, and it goes on here.",
    ]


@given(st.text(alphabet="AZaz .!?=-*>\n\t_", max_size=300))
def test_no_banner_gets_through(text: str) -> None:
    for paragraph in paragraphs(text):
        assert "\n" not in paragraph and not re.search(r"[=*>-]{3}", paragraph)
        assert paragraph[0].isupper() and paragraph[-1] in ".!?"
