"""The curves of one run, or of several together: loss and accuracy against iterations and time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fanfold.workflows.reporting.history import History, Numbers, smooth
from fanfold.workflows.reporting.published import published_beside
from fanfold.workflows.reporting.run import Run
from fanfold.workflows.reporting.style import (
    BLUE,
    DASHES,
    REFERENCE,
    SERIES,
    VERMILLION,
    WIDTH,
    Dashes,
    Picture,
    axes,
    listed,
    percents,
)

BAND = "The line is a running mean over {window} iterations; 80 % of these lie in the band."


def curves(run: Run) -> list[Picture]:
    """Draw loss and accuracy of one run against iterations and time; nothing for a run without metrics."""
    history = run.history
    if not len(history):
        return []
    pictures = []
    for against, x, _ in _against([run]):
        figure, axis = axes()
        window = _band(axis, x[0], history.loss, BLUE, "-", None)
        _loss(axis, against, [history])
        title = f"Training loss against {_short(against)}"
        alt = f"Training loss, {history.loss[0]:.2f} at first, {history.loss[-window:].mean():.3f} at the end."
        pictures.append(Picture(f"loss-{_short(against)}", title, alt, figure, BAND.format(window=window)))
    for against, x, validated in _against([run]):
        figure, axis = axes()
        window = _band(axis, x[0], 100 * history.accuracy, BLUE, "-", f"training tasks, {run.tasks('train')}")
        _points(axis, validated[0], history, VERMILLION, "-", f"validation, {run.tasks('task')}, with 95 % interval")
        _accuracy(axis, against, [history])
        axis.legend(loc="lower right")
        title = f"Accuracy against {_short(against)}"
        alt = f"Accuracy on training tasks, {100 * history.accuracy[-window:].mean():.1f} % at the end"
        if len(history.validation):
            alt += f"; on validation classes {100 * history.validation.max():.2f} % at best"
        pictures.append(Picture(f"accuracy-{_short(against)}", title, f"{alt}.", figure, BAND.format(window=window)))
    return pictures


def overlaid(runs: Sequence[Run]) -> list[Picture]:
    """Draw the same of several runs together; validation accuracies have figures of their own."""
    runs = [run for run in runs if len(run.history)]
    if not runs:
        return []
    names, histories = listed([run.name for run in runs]), [run.history for run in runs]
    pictures = []
    for name, (what, finish, values) in MEASURES.items():
        for against, x, _ in _against(runs):
            figure, axis = axes(height=3.4)
            for place, run in enumerate(runs):
                _band(axis, x[place], values(run.history), *line_style(place), run.name)
            finish(axis, against, histories)
            _legend(axis, len(runs))
            title = f"{what} against {_short(against)}"
            caption = "Running means; 80 % of the iterations lie in the band."
            pictures.append(Picture(f"{name}-{_short(against)}", title, f"{title}, of {names}.", figure, caption))
    known = [run for run in runs if len(run.history.validation)]
    for against, _, validated in _against(known) if known else ():
        figure, axis = axes(height=3.4)
        for place, run in enumerate(known):
            _points(axis, validated[place], run.history, *line_style(runs.index(run)), run.name)
        _accuracy(axis, against, [])
        _legend(axis, len(known))
        title = f"Validation accuracy against {_short(against)}"
        caption = "With 95 % confidence intervals."
        of = listed([run.name for run in known])
        pictures.append(Picture(f"validation-{_short(against)}", title, f"{title}, of {of}.", figure, caption))
    return pictures


def short_of_paper(results: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw the validation accuracy of a table's rows that are below their papers', each in a panel; None without any.

    A row has a curve where its run was validated on the row's own tasks.
    """
    below = [
        (row, paper.percent)
        for row in results
        if (paper := published_beside(row)) and 100 * row["test_accuracy"] < paper.percent and row.get("validations")
    ]
    if not below:
        return None
    columns = min(2, len(below))
    lines = -(-len(below) // columns)
    figure = Figure(figsize=(WIDTH * columns / 1.3, 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (row, percent) in zip(panels, below, strict=False):
        iterations, accuracies, ci95 = np.transpose(row["validations"])
        axis.errorbar(iterations, 100 * accuracies, 100 * ci95, color=BLUE, marker="o", markersize=3.5, capsize=2)
        axis.axhline(percent, **REFERENCE)
        seed = f", seed {row['seed']}" if row["seed"] else ""
        axis.set(title=f"{row['row']}{seed}", ylabel="validation accuracy, %")
        _across(axis, "iterations")
        axis.set_xlim(0, 1.05 * iterations[-1])
    for axis in panels[len(below) :]:
        axis.remove()
    names = listed([row["row"] for row, _ in below])
    title = "Validation accuracy of the rows below their papers"
    caption = "With 95 % confidence intervals; the dashed line is the published test accuracy."
    return Picture("curves", title, f"{title}: {names}.", figure, caption)


def line_style(place: int) -> tuple[str, Dashes]:
    """Colour and dashes of a run, by its place among several."""
    return SERIES[place % len(SERIES)], DASHES[(place + place // len(SERIES)) % len(DASHES)]


def _against(runs: Sequence[Run]) -> list[tuple[str, list[Numbers], list[Numbers]]]:
    """The horizontal axes: name, and each run's places of iterations and of validations."""
    longest = max(run.history.seconds[-1] for run in runs)
    unit, name = (1, "seconds") if longest < 300 else (60, "minutes") if longest < 3 * 3600 else (3600, "hours")
    histories = [run.history for run in runs]
    return [
        ("iterations", [history.iteration for history in histories], [history.validated for history in histories]),
        (
            f"time, {name} of training",
            [history.seconds / unit for history in histories],
            [history.validated_seconds / unit for history in histories],
        ),
    ]


def _across(axis: Axes, against: str) -> None:
    """Finish the horizontal axis; there is no half iteration."""
    axis.set(xlabel=against)
    axis.margins(x=0.01)
    if against == "iterations":
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))


def _short(against: str) -> str:
    return against.partition(",")[0]


def _band(axis: Axes, x: Numbers, y: Numbers, colour: str, dashes: Dashes, label: str | None) -> int:
    drawn = smooth(x, y)
    axis.fill_between(drawn.x, drawn.low, drawn.high, color=colour, alpha=0.18, linewidth=0)
    axis.plot(drawn.x, drawn.mean, color=colour, linestyle=dashes, label=label)
    return drawn.window


def _points(axis: Axes, x: Numbers, history: History, colour: str, dashes: Dashes, label: str) -> None:
    if len(x):
        axis.errorbar(
            x,
            100 * history.validation,
            100 * history.ci95,
            color=colour,
            linestyle=dashes,
            linewidth=1.2,
            marker="o",
            markersize=3.5,
            capsize=2,
            label=label,
        )


def _loss(axis: Axes, against: str, histories: Sequence[History]) -> None:
    least = min(history.loss.min() for history in histories)
    if least > 0 and max(history.loss.max() for history in histories) > 5 * least:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leading(value) in (2, 5) else "")
    axis.set(ylabel="loss, nats")
    _across(axis, against)


def _accuracy(axis: Axes, against: str, histories: Sequence[History]) -> None:
    axis.set(ylabel="accuracy, %")
    low, high = axis.get_ylim()
    percents(axis, max(low, 0.0), min(high, 100.0))
    _across(axis, against)


def _legend(axis: Axes, runs: int) -> None:
    axis.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=1 if runs < 3 else 2, borderaxespad=0)


def _leading(value: float) -> int:
    """The leading digit of a positive number."""
    return int(f"{value:e}"[0])


MEASURES: dict[str, tuple[str, Callable[[Axes, str, Sequence[History]], None], Callable[[History], Numbers]]] = {
    "loss": ("Training loss", _loss, lambda history: history.loss),
    "accuracy": ("Accuracy on training tasks", _accuracy, lambda history: 100 * history.accuracy),
}
