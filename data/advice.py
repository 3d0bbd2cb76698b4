"""Words for messages: configuration fields, ranges of numbers, errors on one line.

A message names a configuration field by its dotted path in backquotes: `meta.batch`, and with a value
`dataset.size=28`. Whoever shows a message may word the fields otherwise, as the command line words them as flags.
"""

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike

from fanfold.data.plain import JSON


def in_fields(settings: Mapping[str, JSON], *command: str) -> str:
    """Settings of configuration fields, and the command that takes them, in backquotes: "`dataset.size=28`"."""
    words = [f"{field}={str(value).lower() if isinstance(value, bool) else value}" for field, value in settings.items()]
    return f"`{shlex.join([*command, *words])}`"


def preparation(
    path: PathLike[str], dataset: str = "auto", origin: Mapping[str, JSON] | None = None, *, overwrite: bool = False
) -> str:
    """The settings of `prepare` that make a store, for a message; `origin` is that of the store to make again."""
    settings: dict[str, JSON] = {"dataset.name": dataset, "dataset.store": str(path)}
    if dataset == "folder":
        settings["dataset.source"] = (origin or {}).get("source", "FOLDER")
    made = (origin or {}).get("settings")
    if isinstance(made, Mapping):
        settings |= made
    if overwrite:
        settings["overwrite"] = True
    return in_fields(settings, "prepare")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that is most like another; empty where none is."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def counted(number: int, thing: str) -> str:
    """A number of things: "1 worker", "2 workers", "2 classes"."""
    return f"{number:,} {thing}{'' if number == 1 else 'es' if thing.endswith('s') else 's'}"


def paced(rate: float) -> str:
    """A rate, with two digits where it is small: "1,234", "3.3", "0.043"."""
    return f"{rate:,.0f}" if rate >= 9.95 or rate == 0 else f"{rate:.2g}"


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers in words: "3, 64 to 127"."""
    breaks = [place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1]
    runs = [(numbers[a], numbers[b - 1]) for a, b in zip([0, *breaks], [*breaks, len(numbers)], strict=True)]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)


_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tabs and ends of lines, and those that turn text round."""


def uncontrolled(text: str) -> str:
    """Text without what a terminal would obey: names of files and classes may hold anything."""
    return _OBEYED.sub("\N{REPLACEMENT CHARACTER}", text)


def as_text(name: str | PathLike[str]) -> str:
    r"""A file's name as text: bytes that are no UTF-8 become escapes such as `\xe9`."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a pair of surrogates, which JSON can spell and no file's name has
        return os.fspath(name).encode("utf-8", "backslashreplace").decode()


def one_printable_line(text: str) -> str:
    """Text on one line, without control characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))


def one_line(error: BaseException) -> str:
    """An error's message on one line, without PyTorch's stack of C++; the error's class where it has none."""
    return " ".join(str(error).partition("Exception raised from")[0].split()) or type(error).__name__


def why(error: BaseException) -> str:
    """The reason of an error: the system's, without the file's name, where it has one; else its message on one line."""
    return getattr(error, "strerror", None) or one_line(error)
