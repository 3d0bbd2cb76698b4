"""The report of a search: a table, and pictures of its study as PNG and in one HTML file that needs no network.

The pictures are Optuna's. They also show pruned trials with the accuracy that these had reached, as few trials finish
in a search with a pruner.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import optuna
from markupsafe import Markup
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.offline import get_plotlyjs

from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.search.progress import in_short, short_names, shown
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.result import in_words
from fanfold.workflows.reporting.page import template

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

BEST = 10  # trials in the terminal's table at most
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
TARGET = "validation accuracy, %"


class Plot(NamedTuple):
    """A picture of the study by a function of both `optuna.visualization` and `optuna.visualization.matplotlib`."""

    title: str
    words: str
    function: str
    size: tuple[float, float] = (9, 4.5)  # inches of the file

    def draw(self, backend: Any, seen: optuna.Study) -> Any:
        """Draw with one of the two modules; intermediate values name no target."""
        target = {} if self.function == "plot_intermediate_values" else {"target_name": TARGET}
        return getattr(backend, self.function)(seen, **target)


PICTURES = {
    "history": Plot(
        "History", "Every trial in the order of drawing, and the best so far.", "plot_optimization_history"
    ),
    "rungs": Plot(
        "Rungs",
        "The best validation accuracy of each trial so far, at every rung. Lines that end early were pruned.",
        "plot_intermediate_values",
    ),
    "importance": Plot(
        "Importance of parameters",
        "How much each parameter explains the difference of the better trials (PED-ANOVA).",
        "plot_param_importances",
        (9, 3.5),
    ),
    "slices": Plot("Slices", "Accuracy against each parameter by itself; darker trials came later.", "plot_slice"),
    "parallel": Plot(
        "Parallel coordinates",
        "A line for each trial. Drag along an axis to select trials.",
        "plot_parallel_coordinate",
        (11, 5),
    ),
}


def table(study: optuna.Study) -> str:
    """The best trials as a table for the terminal."""
    trials = [trial for trial in ranked(study) if trial.value is not None][:BEST]
    rows = [("trial", "validation", "iterations", "", "parameters")]
    for trial in trials:
        iterations = f"{trial.user_attrs.get('iterations', 0):,}"
        rows.append((str(trial.number), _percent(trial), iterations, STATES[trial.state], in_short(trial.params)))
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    return "\n".join(
        "  ".join([*(row[place].rjust(widths[place]) for place in range(3)), row[3].ljust(widths[3]), row[4]])
        for row in rows
    )


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended: finished, then pruned, then failed ones, each kind by accuracy."""
    order = list(STATES)
    over = study.get_trials(deepcopy=False, states=tuple(order))
    return sorted(over, key=lambda trial: (order.index(trial.state), -(trial.value or 0.0), trial.number))


def write_report(directory: Path, study: optuna.Study, result: Mapping[str, Any]) -> None:
    """Write `report.html`, and its pictures as `history.png`, `rungs.png`, `importance.png` and so on.

    Raises:
        FanfoldError: A file can't be written.
    """
    seen = with_pruned(study)
    sections: list[tuple[str, str, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # Matplotlib's, of axes with a single value
        for name, plot in PICTURES.items():
            try:
                sections.append((plot.title, plot.words, _interactive(plot, seen)))
                figure = _still(plot, seen)
            except (ValueError, RuntimeError) as error:  # Optuna's, of too few trials
                sections.append((plot.title, f"There are too few trials for this ({error}).", ""))
                continue
            figure.savefig(directory / f"{name}.png", dpi=150, bbox_inches="tight")
            pyplot.close(figure)
    write_bytes(directory / "report.html", _page(study, result, sections).encode(errors="backslashreplace"))


def with_pruned(study: optuna.Study) -> optuna.Study:
    """The study for drawing, in memory: pruned trials count as finished, accuracies are in %, names are short."""
    seen = optuna.create_study(study_name=study.study_name, direction="maximize")
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    names = short_names(dict.fromkeys(key for trial in trials for key in trial.params))
    for trial in trials:
        if trial.value is None:
            continue
        seen.add_trial(
            create_trial(
                value=100 * trial.value,
                params={names[key]: value for key, value in trial.params.items()},
                distributions={names[key]: values for key, values in trial.distributions.items()},
                intermediate_values={step: 100 * value for step, value in trial.intermediate_values.items()},
            )
        )
    return seen


def _still(plot: Plot, seen: optuna.Study) -> Figure:
    """A picture for a file, by Matplotlib."""
    axes = np.ravel(np.asarray(plot.draw(optuna.visualization.matplotlib, seen)))
    figure: Figure = axes[0].figure
    figure.set_size_inches(plot.size)
    if plot.function == "plot_intermediate_values":
        axes[0].set(xlabel="iteration", ylabel=TARGET)
        if legend := axes[0].get_legend():
            legend.remove()  # it would have a line for each trial
    if plot.function == "plot_slice":
        for axis in figure.axes:
            plain_ticks(axis)
        figure.set_size_inches(max(9, 3 * len(figure.axes)), 4.5)
    return figure


def plain_ticks(axis: Any) -> None:
    """Put few and short labels on a log scale; the default ones of a decade overlap."""
    if axis.get_xscale() != "log":
        return
    low, high = axis.get_xlim()
    leading = (1,) if high / low >= 30 else (1, 3) if high / low >= 8 else (1, 2, 5)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in leading if low <= digit * 10.0**decade <= high]
    axis.xaxis.set_major_locator(
        matplotlib.ticker.FixedLocator(ticks) if len(ticks) > 1 else matplotlib.ticker.MaxNLocator(2)
    )
    axis.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _interactive(plot: Plot, seen: optuna.Study) -> Markup:
    """A picture for the page, by Plotly."""
    figure = plot.draw(optuna.visualization, seen)
    if plot.function == "plot_intermediate_values":
        figure.update_layout(xaxis_title="iteration", yaxis_title=TARGET)
    figure.update_layout(title=None, template="plotly_white", margin={"t": 30})
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return Markup(drawn)  # noqa: S704 (Plotly escapes)


def _page(study: optuna.Study, result: Mapping[str, Any], sections: Sequence[tuple[str, str, str]]) -> str:
    trials = ranked(study)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    how = (
        f"Trial {result['trial']} of {result['trials']} ({result['finished']} finished, {result['pruned']} pruned, "
        f"{result['failed']} failed) did best on validation classes: "
        f"{100 * result['trial_validation_accuracy']:.2f} %. This is the highest of many accuracies, so it is "
        "biased upwards; the test is on classes that no choice depended on."
    )
    return template("search.html").render(
        name=f"{result['algorithm']}, {result['ways']}-way {result['shots']}-shot, "
        f"{result['dataset']} {result['split']}",
        how=how,
        result=result,
        shown=shown,
        tested=in_words(dict(result)).splitlines(),
        plotly=Markup(get_plotlyjs()),  # noqa: S704 (Plotly's own file)
        sections=sections,
        head=("trial", "validation", "", "iterations", "seconds", *keys, "why it failed"),
        trials=[
            (trial.number, _cells(trial, keys), in_flags(str(trial.user_attrs.get("reason", "")))) for trial in trials
        ],
    )


def _cells(trial: FrozenTrial, keys: list[str]) -> list[str]:
    facts = trial.user_attrs
    seconds = f"{facts['train_seconds']:.1f}" if "train_seconds" in facts else ""
    values = [shown(trial.params[key]) if key in trial.params else "" for key in keys]
    iterations = f"{facts.get('iterations', 0):,}"
    return [str(trial.number), _percent(trial), STATES[trial.state], iterations, seconds, *values]


def _percent(trial: FrozenTrial) -> str:
    return "" if trial.value is None else f"{100 * trial.value:.2f} %"
