"""A run as read from its directory: configuration, course, result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.data.source import called
from fanfold.pipeline.configuration import flatten_keys
from fanfold.pipeline.recording.kept import read_configuration, read_result, read_text
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.workflows.cli.program import command
from fanfold.workflows.reporting.history import History, read_history


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
        known = (self.result or {}).get("dataset", "folder")  # a result of before has the kind of data set alone
        name = data_of(self.config) if known == "folder" else known
        return f"{name} {self.config.get('dataset.split') or ''}".strip()

    def tasks(self, section: str) -> str:
        """A section's tasks in words, such as "5-way 1-shot"."""
        return f"{self.config.get(f'{section}.ways')}-way {self.config.get(f'{section}.shots')}-shot"


def data_of(config: Mapping[str, Any]) -> str:
    """What people call a configuration's data set, by dotted keys: its name, or that of its folder or store."""
    name = str(config.get("dataset.name"))
    place = config.get("dataset.source") or config.get("dataset.store")
    return called(str(place)) if name == "folder" and place else name


def read_run(path: Path) -> Run:
    """Read a run directory; metrics and result may be missing.

    Raises:
        FanfoldError: The directory holds no run, or its configuration or result can't be read.
    """
    directory = RunDirectory(path)
    if not directory.config.exists():
        raise FanfoldError(f"The folder {path} holds no run: train one with `{command('train', '--run', str(path))}`.")
    config, result = read_configuration(directory.config), read_result(directory.result)
    text = read_text("configuration", directory.config)
    return Run(path.resolve().name, directory, text, flatten_keys(config), read_history(directory), result)


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs with different names: their directories' names if these differ, else their paths."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    return [replace(run, name=str(run.directory.path)) for run in runs]
