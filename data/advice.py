"""Words for errors: what was wrong, and the command that mends it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from fanfold.data.source import JSON


def prepare_command(
    path: Path, dataset: str = "auto", attributes: Mapping[str, JSON] | None = None, *, overwrite: bool = False
) -> str:
    """The command that makes a store, for the user to copy.

    Args:
        path: where the store lies, or shall.
        dataset: the data set's name.
        attributes: those of the store to make again, which say how a folder's was made.
        overwrite: whether there is one to be replaced.
    """
    words = ["python", "-m", "workflows.prepare", "--dataset.name", dataset, "--dataset.store", str(path)]
    if dataset == "folder":
        words += ["--dataset.source", str((attributes or {}).get("source", "FOLDER"))]
        if attributes:
            words += ["--dataset.size", str(attributes.get("height"))]
            words += ["--dataset.invert", str(attributes.get("invert")).lower()]
    if overwrite:
        words += ["--overwrite", "true"]
    return shlex.join(words)


def ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers in words: "3, 64 to 127"."""
    breaks = [place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1] + 1]
    runs = [(numbers[a], numbers[b - 1]) for a, b in zip([0, *breaks], [*breaks, len(numbers)], strict=True)]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)


def one_line(error: BaseException) -> str:
    """What an error says, or else what it is called, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
