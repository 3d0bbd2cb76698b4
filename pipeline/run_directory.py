"""The files of a run: the run directory is the whole run."""

import json
from dataclasses import dataclass
from pathlib import Path

from data.errors import FanfoldError
from pipeline.events import Event, WindowEnded
from pipeline.files import write_bytes


@dataclass(frozen=True)
class RunDirectory:
    """Where a run's files are.

    Args:
        path: The directory.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line an iteration."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The last checkpoint: to go on from, and with it the parameters that did best on validation classes."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def result(self) -> Path:
        """What `train` found."""
        return self.path / "result.json"

    @property
    def evaluation(self) -> Path:
        """What `evaluate` found."""
        return self.path / "evaluation.json"

    def check_free(self) -> None:
        """Raise FanfoldError if the directory already holds a run."""
        if self.config.exists():
            raise FanfoldError(f"{self.path} already holds a run: go on with --resume, or name another with --run.")

    def create(self, config: str) -> None:
        """Make the directory for a new run.

        Raises:
            FanfoldError: It holds a run already, or can't be made.
        """
        self.check_free()
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FanfoldError(f"The run directory {self.path} can't be made ({error.strerror}).") from error
        write_bytes(self.config, config.encode())

    def log(self, event: Event) -> None:
        """Append a window's iterations to the metrics. Listens to a run's events.

        Lines are appended, not rewritten each time; one that a crash cut short is dropped by `forget_after`.
        """
        if not isinstance(event, WindowEnded) or not event.records:
            return
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
        try:
            with self.metrics.open("a") as file:
                file.write("".join(json.dumps(line) + "\n" for line in lines))
        except OSError as error:
            raise FanfoldError(
                f"{self.metrics} can't be written ({error.strerror}): mend that, and go on with --resume."
            ) from error

    def forget_after(self, iteration: int) -> None:
        """Drop the metrics of iterations after a checkpoint, which will be computed again."""
        if not self.metrics.exists():
            return
        kept = [line for line in self.metrics.read_text().splitlines() if 0 < _iteration(line) <= iteration]
        write_bytes(self.metrics, "".join(line + "\n" for line in kept).encode())


def _iteration(line: str) -> int:
    """The iteration of a line of metrics; 0 for a line that a crash cut short."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return 0
