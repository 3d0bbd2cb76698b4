"""What `evaluate` found on a run after its training, in lines."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.recording.kept import TESTED, read_object
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.result import in_words

MOST = 5
NEEDED = {**TESTED, **dict.fromkeys(("dataset", "split"), str), **dict.fromkeys(("ways", "shots"), int)}


def evaluations(directory: RunDirectory) -> list[str]:
    """The tests that `evaluate` made, the newest first, at most five; files that are none of them are left out."""
    try:
        paths = sorted(directory.evaluations.glob("*.json"), key=lambda path: path.lstat().st_mtime, reverse=True)
    except OSError:
        return []
    return _lines(paths)[:MOST]


def _lines(paths: Sequence[Path]) -> list[str]:
    found = []
    for path in paths:
        with suppress(FanfoldError):  # it is none of them
            accuracy = in_words({**read_object("test", path, NEEDED), "other_tests": []})
            found.append(f"Tested after training ({path.parent.name}/{path.name}): {accuracy}.")
    return found
