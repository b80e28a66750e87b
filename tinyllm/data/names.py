"""What to say of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 24  # names that are listed, at most


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if any is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def near(name: str, known: Iterable[str]) -> str:
    """The last part of a message about a wrong name: "did you mean train?", or all the names that there are."""
    names = list(known)
    if close := nearest(name, names):
        return f"did you mean {close}?"
    return f"there are {', '.join(names)}" if len(names) <= MOST else "--help and the documentation list all of them"
