"""Adaptation: accuracy after each inner step."""

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from fanfold.pipeline.results import Accuracy
from fanfold.workflows.reporting.style import BLUE, REFERENCE, Picture, axes, percents

AFTER = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def steps_to_try(tested: int) -> list[int]:
    """The numbers of inner steps to test: from zero to about twice the tested number, or to that if it is large."""
    last = max(5, 2 * tested if tested <= 10 else tested)
    return sorted({*(steps for steps in AFTER if steps <= last), tested})


def draw_adaptation(points: Sequence[tuple[int, Accuracy]], tested: int) -> Picture:
    """Draw the accuracies after numbers of inner steps, with a mark at the tested number."""
    figure, axis = axes()
    steps, mean = [step for step, _ in points], [100 * accuracy.mean for _, accuracy in points]
    interval = [100 * accuracy.ci95 for _, accuracy in points]
    axis.axvline(tested, label=f"tested after {tested} step{'s' * (tested != 1)}", **REFERENCE)
    axis.errorbar(steps, mean, interval, color=BLUE, marker="o", markersize=4, capsize=2.5, label="with 95 % interval")
    axis.set(xlabel="inner steps on the support set", ylabel="accuracy, %")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    pairs = list(zip(mean, interval, strict=True))
    percents(axis, min(a - b for a, b in pairs), max(a + b for a, b in pairs))
    axis.legend(loc="lower right")
    first, of_tested = points[0][1], dict(points)[tested]
    return Picture(
        "adaptation",
        "Adaptation",
        f"Accuracy on test tasks after inner steps: {100 * first.mean:.1f} % before the first, "
        f"{100 * of_tested.mean:.1f} % after {tested} as tested.",
        figure,
        f"The same {first.tasks:,} test tasks after each number of steps.",
    )
