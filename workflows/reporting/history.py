"""A run's course, from the lines of its metrics and validations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fanfold.pipeline.files import read_lines
from fanfold.pipeline.recording.run_directory import RunDirectory, line_of

Numbers = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class History:
    """A run's course."""

    iteration: Numbers  # `[iterations]`, iterations done, in order
    seconds: Numbers  # `[iterations]`, seconds of training so far
    loss: Numbers  # `[iterations]`, mean loss of the meta-batch's tasks
    accuracy: Numbers  # `[iterations]`, their mean accuracy, as a share of 1
    validated: Numbers  # `[validations]`, iterations done at each validation, in order
    validation: Numbers  # `[validations]`, validation accuracies
    ci95: Numbers  # `[validations]`, half the widths of their 95 % confidence intervals

    def __len__(self) -> int:
        return len(self.iteration)

    def __repr__(self) -> str:
        parts = [f"{int(self.iteration[-1]) if len(self) else 0:,} iterations"]
        if len(self):
            parts.append(f"loss {self.loss[-1]:.4f}, accuracy {100 * self.accuracy[-1]:.2f} % at the last")
        if np.isfinite(self.validation).any():
            parts.append(f"best of {len(self.validated):,} validations {100 * np.nanmax(self.validation):.2f} %")
        return f"<history: {', '.join(parts)}>"

    @property
    def validated_seconds(self) -> Numbers:
        """`[validations]`, seconds of training so far at each validation."""
        return np.interp(self.validated, self.iteration, self.seconds) if len(self) else np.zeros_like(self.validated)


@dataclass(frozen=True)
class Smooth:
    """A smoothed curve: arrays of `[points]`."""

    x: Numbers
    mean: Numbers  # of the iterations around each point
    low: Numbers  # their tenth percentiles
    high: Numbers  # their ninetieth percentiles
    window: int  # how many iterations each point has at most


def read_history(directory: RunDirectory) -> History:
    """Read a run's files. Missing files are empty; half a line, as of a crash, is skipped."""
    metrics, validations = _lines(directory.metrics), _lines(directory.validations)
    iteration = _column(metrics, "iteration")
    return History(
        iteration,
        _spread(iteration, _column(metrics, "seconds")),
        *(_column(metrics, name) for name in ("loss", "accuracy")),
        *(_column(validations, name) for name in ("iteration", "accuracy", "ci95")),
    )


def smooth(x: Numbers, y: Numbers, points: int = 150) -> Smooth:
    """Means and percentiles around points of a curve, each of a fortieth of the iterations, at least ten."""
    window = min(max(10, len(y) // 40), len(y))
    places = np.unique(np.linspace(0, len(y) - 1, min(points, len(y))).round().astype(int))
    about = [y[max(place - window // 2, 0) : place - window // 2 + window] for place in places]
    low, high = np.transpose([np.percentile(part, (10, 90)) for part in about])
    return Smooth(x[places], np.array([part.mean() for part in about]), low, high, window)


def _lines(path: Path) -> list[Mapping[str, Any]]:
    """The complete lines of a file of JSON objects by iteration; the last one of several for an iteration."""
    found = dict(map(line_of, read_lines(path))) if path.exists() else {}
    return [found[iteration] for iteration in sorted(found) if iteration]


def _spread(iteration: Numbers, seconds: Numbers) -> Numbers:
    """Seconds at each iteration, interpolated from those at the ends of windows."""
    ends = np.flatnonzero(np.diff(seconds, append=np.inf))
    spread: Numbers = np.interp(iteration, [0, *iteration[ends]], [0, *seconds[ends]])
    return spread


def _column(lines: list[Mapping[str, Any]], name: str) -> Numbers:
    """A number a line; not a number where the line has none."""
    return np.array([float(value) if _is_number(value := line.get(name)) else np.nan for line in lines], np.float64)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
