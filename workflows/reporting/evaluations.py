"""What `evaluate` found on a run after its training, in lines."""

import json
from collections.abc import Sequence
from pathlib import Path

from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.result import in_words
from fanfold.workflows.reporting.run import TESTED, wrong_key

MOST = 5
NEEDED = {**TESTED, **dict.fromkeys(("dataset", "split"), str), **dict.fromkeys(("ways", "shots"), int)}


def evaluations(directory: RunDirectory) -> list[str]:
    """The tests that `evaluate` made, the newest first, at most five; files that are none of them are left out."""
    try:
        paths = sorted(directory.evaluations.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []
    return _lines(paths)[:MOST]


def _lines(paths: Sequence[Path]) -> list[str]:
    found = []
    for path in paths:
        try:
            result = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            continue
        if wrong_key(result, NEEDED) is None:
            accuracy = in_words({**result, "other_tests": []})
            found.append(f"Tested after training ({path.parent.name}/{path.name}): {accuracy}.")
    return found
