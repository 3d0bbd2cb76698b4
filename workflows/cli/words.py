"""Words for a user's mistakes."""

import difflib
from collections.abc import Iterable


def one_printable_line(text: str) -> str:
    """Text on one line, without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like another; empty where none is."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""
