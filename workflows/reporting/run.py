"""A run as read from its directory: configuration, course, result."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.pipeline import yaml_text
from fanfold.pipeline.configuration import flatten_keys
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.program import command
from fanfold.workflows.reporting.history import History, read_history

TESTED = {"transductive": bool, "test_accuracy": float, "test_ci95": float, "test_episodes": int}
NEEDED = {
    **dict.fromkeys(("dataset", "algorithm", "device", "tested_sha256", "parameters_sha256"), str),
    **dict.fromkeys(("ways", "shots", "tested_iteration", "iterations", "workers"), int),
    **dict.fromkeys(("validation_accuracy", "train_seconds", "tasks_per_second"), float),
    **TESTED,
    "other_tests": list,
}  # keys of a result that a report needs, and the types of their values


@dataclass(frozen=True)
class Run:
    """A run, finished or not."""

    name: str
    directory: RunDirectory
    yaml: str  # its resolved configuration, as in its file
    config: Mapping[str, Any]  # the same by dotted keys
    history: History
    result: Mapping[str, Any] | None  # of `train`; None for an unfinished run

    @property
    def title(self) -> str:
        """Algorithm, tasks and data in a line."""
        return f"{self.config.get('algorithm.name')}, {self.tasks('task')}, {self.data}"

    @property
    def data(self) -> str:
        """Data set and split."""
        return f"{self.config.get('dataset.name')} {self.config.get('dataset.split') or ''}".strip()

    def tasks(self, section: str) -> str:
        """A section's tasks in words, such as "5-way 1-shot"."""
        return f"{self.config.get(f'{section}.ways')}-way {self.config.get(f'{section}.shots')}-shot"


def read_run(path: Path) -> Run:
    """Read a run directory; metrics and result may be missing.

    Raises:
        FanfoldError: The directory holds no run, or its configuration or result can't be read.
    """
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise FanfoldError(f"The folder {path} holds no run: train one with `{command('train', '--run', str(path))}`.")
    try:
        text = directory.config.read_text()
        config = yaml_text.load(text)
        result = json.loads(directory.result.read_text()) if directory.result.exists() else None
    except (OSError, ValueError, RecursionError, yaml_text.YAMLError) as error:
        raise FanfoldError(f"The run in {path} can't be read ({one_line(error)}): train it again.") from error
    wrong = None if isinstance(config, dict) else "config.yaml"
    if result is not None and wrong is None and (key := wrong_key(result)) is not None:
        wrong = f"{key} in result.json"
    if wrong:
        raise FanfoldError(
            f"The run in {path} was written by another version of Fanfold, or damaged ({wrong}): train it again."
        )
    return Run(path.resolve().name, directory, text, flatten_keys(config), read_history(directory), result)


def wrong_key(result: Any, needed: Mapping[str, type] = NEEDED) -> str | None:
    """A key of a result that is missing or of another type or not finite; None where all are right."""
    if not isinstance(result, dict):
        return "all"
    for key, kind in needed.items():
        value: Any = result.get(key)
        numeric = kind in (int, float)
        right = isinstance(value, (int, float) if kind is float else kind) and not (numeric and isinstance(value, bool))
        if not right or (numeric and not abs(value) < 1e300):
            return key
    if not isinstance(result.get("reduction", ""), str):
        return "reduction"
    tests = result["other_tests"] if needed is NEEDED else []
    return "other_tests" if any(wrong_key(test, TESTED) is not None for test in tests) else None


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs with different names: their directories' names if these differ, else their paths."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    return [replace(run, name=str(run.directory.path)) for run in runs]
