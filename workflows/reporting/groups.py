"""Accuracy by group of classes, such as an alphabet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from fanfold.data.source import ClassName
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.characters import shortened
from fanfold.workflows.reporting.style import BLUE, FAINT, GRID, REFERENCE, Picture, axes, percents

MOST = 50  # groups drawn at most
LONGEST = 32  # letters of a drawn name at most


@dataclass(frozen=True)
class OfGroup:
    """The predictions for queries of one group."""

    name: str
    right: int  # how many predictions are right
    asked: int  # of how many
    low: float  # lower end of Wilson's 95 % confidence interval of the accuracy
    high: float  # upper end of it

    @property
    def accuracy(self) -> float:
        return self.right / self.asked


def wilson(right: int, asked: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share, which is sound even for shares of 1."""
    interval = binomtest(right, asked).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def by_group(names: Sequence[ClassName], episodes: Episodes, predictions: Predictions) -> list[OfGroup]:
    """Accuracies by the group of the queries, the highest first."""
    groups, of_class = np.unique([name.group for name in names], return_inverse=True)
    of_way = of_class[episodes.classes].ravel()
    right = np.bincount(of_way, predictions.right.sum(axis=2).ravel(), len(groups)).astype(int)
    asked = np.bincount(of_way, minlength=len(groups)) * predictions.labels.shape[2]
    found = [
        OfGroup(str(name), int(of_name), int(all_of_name), *wilson(int(of_name), int(all_of_name)))
        for name, of_name, all_of_name in zip(groups, right, asked, strict=True)
        if all_of_name
    ]
    return sorted(found, key=lambda one: (-one.accuracy, -one.asked, one.name))


def draw_groups(found: Sequence[OfGroup], word: str) -> list[Picture]:
    """Draw a line for each group, called by `word`, at most `MOST` of the lowest accuracies; none for one."""
    if len(found) < 2:
        return []
    overall = sum(one.right for one in found) / sum(one.asked for one in found)
    shown = found[-MOST:]
    figure, axis = axes(height=0.75 + 0.19 * len(shown))
    for place, one in enumerate(shown):
        axis.plot((100 * one.low, 100 * one.high), (place, place), color=BLUE, linewidth=1.4, alpha=0.55)
    axis.plot([100 * one.accuracy for one in shown], range(len(shown)), "o", color=BLUE, markersize=4)
    axis.axvline(100 * overall, **REFERENCE)
    axis.annotate(
        f"all: {100 * overall:.1f} %",
        xy=(100 * overall, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-3, 3),
        textcoords="offset points",
        ha="right" if overall > 0.5 else "left",
        color=FAINT,
        fontsize=8.5,
    )
    axis.set_yticks(range(len(shown)), [shortened(one.name, LONGEST) for one in shown], fontsize=8)
    axis.set(ylim=(len(shown) - 0.4, -0.6), xlabel="accuracy, % (bars: 95 % intervals, by Wilson)")
    axis.grid(axis="y", color=GRID, linewidth=0.3)
    axis.tick_params(axis="y", length=0)
    percents(axis, 100 * min(one.low for one in shown), 100 * max(one.high for one in shown), horizontal=True)
    best, worst = found[0], found[-1]
    alt = (
        f"Accuracy by {word}, from {best.name} with {100 * best.accuracy:.1f} % down to "
        f"{worst.name} with {100 * worst.accuracy:.1f} %."
    )
    left_out = f"The {len(shown)} with the lowest accuracy of {len(found)}." if len(shown) < len(found) else ""
    return [Picture("groups", f"Accuracy by {word}", alt, figure, left_out)]
