"""The run directory: all files of a run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from fanfold.data.advice import as_text
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.events import Event, Validated, WindowEnded
from fanfold.pipeline.files import read_lines, write_bytes
from fanfold.pipeline.lock import only_writer

MOST_ITERATIONS = 2**53  # that a float64 tells from each other


class RunDirectory:
    """The paths of a run's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = as_text(path.name)  # for messages and pages, which are UTF-8
        self.config = path / "config.yaml"  # resolved
        self.metrics = path / "metrics.jsonl"  # a JSON object a line, a line an iteration
        self.validations = path / "validations.jsonl"  # a JSON object a line, a line a validation
        # The last checkpoint, with the state to resume from and the best parameters on validation classes.
        self.last = path / "checkpoints" / "last.safetensors"
        self.result = path / "result.json"  # of `train`
        self.weights = path / "weights.safetensors"  # that a backbone started from
        self.evaluations = path / "evaluations"  # of `evaluate`, a file for each that was asked for

    def check_free(self) -> None:
        """Raise FanfoldError if the directory already holds a run."""
        if self.config.exists():
            raise FanfoldError(f"{self.path} already holds a run: go on with `resume`, or name another with `run`.")

    def create(self, config: str) -> None:
        """Make the directory for a new run.

        Raises:
            FanfoldError: The directory holds a run already, or can't be made.
        """
        self.check_free()
        self._make()
        write_bytes(self.config, config.encode())

    @contextmanager
    def writing(self, config: str, *, resumed: bool) -> Iterator[None]:
        """Be the only writer of a new run, or of one that is resumed, perhaps to become longer.

        Raises:
            FanfoldError: Another process writes the run, or a new run's directory holds one or can't be made.
        """
        self._make()
        with self._alone():
            if not resumed:
                self.check_free()
            write_bytes(self.config, config.encode())
            yield

    def check_unwritten(self) -> None:
        """Raise FanfoldError if another process writes the run."""
        with self._alone():
            pass

    def _alone(self) -> AbstractContextManager[None]:
        return only_writer(self.path / ".lock", f"The run {self.path}")

    def with_weights(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The run's configuration by section, with the weights that its network started from as they are kept here."""
        if not self.weights.exists():
            return config
        return {**config, "model": {**config.get("model", {}), "weights": str(self.weights)}}

    def keep_weights(self, content: bytes | None) -> None:
        """Keep the weights that a network starts from, if any, so that the run can be loaded wherever it lies.

        Raises:
            FanfoldError: They can't be written.
        """
        if content is not None and not self.weights.exists():
            write_bytes(self.weights, content)

    def _make(self) -> None:
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FanfoldError(f"The run directory {self.path} can't be made ({error.strerror}).") from error

    def log(self, event: Event) -> None:
        """Append iterations to the metrics, and validations to their file. Listens to a run's events.

        A crash may leave half a line, which `forget_after` drops.
        """
        match event:
            case WindowEnded():
                lines = [
                    {
                        "iteration": record.iteration + 1,
                        "loss": record.loss,
                        "accuracy": record.accuracy,
                        "tasks_per_second": round(event.tasks_per_second, 3),
                        "seconds": round(event.seconds, 3),
                    }
                    for record in event.records
                ]
                _append(self.metrics, lines)
            case Validated():
                line = {name: getattr(event, name) for name in ("iteration", "loss", "accuracy", "ci95", "best")}
                _append(self.validations, [line])

    def forget_after(self, iteration: int, validated: int) -> None:
        """Drop the lines of iterations after a checkpoint and its last validation: they are computed again."""
        for path, last in ((self.metrics, iteration), (self.validations, validated)):
            if path.exists():
                kept = [line for line in read_lines(path) if 0 < line_of(line)[0] <= last]
                write_bytes(path, "".join(line + "\n" for line in kept).encode())


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines of JSON to a file.

    Raises:
        FanfoldError: The file can't be written, as on a full disk.
    """
    try:
        with path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise FanfoldError(
            f"{path} can't be written ({error.strerror}): mend that, and go on with `resume`."
        ) from error


def line_of(text: str) -> tuple[int, Mapping[str, Any]]:
    """A line of metrics or validations, with its iteration, from 1 on; 0 for half a line, or one of any other kind."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return 0, {}
    iteration = found.get("iteration") if isinstance(found, dict) else None
    if type(iteration) is not int or not 0 < iteration < MOST_ITERATIONS:
        return 0, {}
    return iteration, found
