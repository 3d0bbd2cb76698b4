"""The report of a search: a table, and pictures of its study as PNG and in one HTML file that needs no network.

The pictures are Optuna's. They also show pruned trials with the accuracy that these had reached, as few trials finish
in a search with a pruner.
"""

import html
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
import plotly.graph_objects
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.offline import get_plotlyjs

from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.search.progress import in_short, short_names, shown
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.result import in_words

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

BEST = 10  # trials in the terminal's table at most
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
TARGET = "validation accuracy, %"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } p { max-width: 46rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 3px 12px 3px 0; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap }
tr.best { font-weight: 600 } td.reason { white-space: normal; min-width: 16rem }
code { font-size: 14px; background: #f3f3f3; padding: 1px 4px }
"""


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

    Args:
        directory: The folder.
        study: The study.
        result: The search's result.

    Raises:
        FanfoldError: A file can't be written.
    """
    seen = with_pruned(study)
    sections = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # Matplotlib's, of axes with a single value
        for name, (title, words, interactive, still) in PICTURES.items():
            try:
                sections.append(_section(title, words, interactive(seen)))
                figure = still(seen)
            except (ValueError, RuntimeError) as error:  # Optuna's, of too few trials
                sections.append(
                    f"<h2>{title}</h2><p>There are too few trials for this ({html.escape(str(error))}).</p>"
                )
                continue
            figure.savefig(directory / f"{name}.png", dpi=150, bbox_inches="tight")
            pyplot.close(figure)
    write_bytes(directory / "report.html", _page(study, result, sections).encode())


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


def _history(seen: optuna.Study) -> Figure:
    return _sized(optuna.visualization.matplotlib.plot_optimization_history(seen, target_name=TARGET), 9, 4.5)


def _rungs(seen: optuna.Study) -> Figure:
    axes = optuna.visualization.matplotlib.plot_intermediate_values(seen)
    axes.set_xlabel("iteration")
    axes.set_ylabel(TARGET)
    if legend := axes.get_legend():
        legend.remove()  # it would have a line for each trial
    return _sized(axes, 9, 4.5)


def _importance(seen: optuna.Study) -> Figure:
    return _sized(optuna.visualization.matplotlib.plot_param_importances(seen, target_name=TARGET), 9, 3.5)


def _slices(seen: optuna.Study) -> Figure:
    figure = _sized(optuna.visualization.matplotlib.plot_slice(seen, target_name=TARGET), 9, 4.5)
    for axis in figure.axes:
        plain_ticks(axis)
    figure.set_size_inches(max(9, 3 * len(figure.axes)), 4.5)
    return figure


def _parallel(seen: optuna.Study) -> Figure:
    axes = optuna.visualization.matplotlib.plot_parallel_coordinate(seen, target_name=TARGET)
    return _sized(axes, 11, 5)


def _sized(axes: Any, width: float, height: float) -> Figure:
    figure: Figure = np.ravel(np.asarray(axes))[0].figure
    figure.set_size_inches(width, height)
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


def _rungs_interactive(seen: optuna.Study) -> Any:
    figure = optuna.visualization.plot_intermediate_values(seen)
    return figure.update_layout(xaxis_title="iteration", yaxis_title=TARGET)


Draw = Callable[[optuna.Study], Any]
PICTURES: dict[str, tuple[str, str, Draw, Draw]] = {
    "history": (
        "History",
        "Every trial in the order of drawing, and the best so far.",
        lambda seen: optuna.visualization.plot_optimization_history(seen, target_name=TARGET),
        _history,
    ),
    "rungs": (
        "Rungs",
        "The best validation accuracy of each trial so far, at every rung. Lines that end early were pruned.",
        _rungs_interactive,
        _rungs,
    ),
    "importance": (
        "Importance of parameters",
        "How much each parameter explains the difference of the better trials (PED-ANOVA).",
        lambda seen: optuna.visualization.plot_param_importances(seen, target_name=TARGET),
        _importance,
    ),
    "slices": (
        "Slices",
        "Accuracy against each parameter by itself; darker trials came later.",
        lambda seen: optuna.visualization.plot_slice(seen, target_name=TARGET),
        _slices,
    ),
    "parallel": (
        "Parallel coordinates",
        "A line for each trial. Drag along an axis to select trials.",
        lambda seen: optuna.visualization.plot_parallel_coordinate(seen, target_name=TARGET),
        _parallel,
    ),
}


def _section(title: str, words: str, figure: plotly.graph_objects.Figure) -> str:
    figure.update_layout(title=None, template="plotly_white", margin={"t": 30})
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return f'<h2>{title}</h2><p>{words}</p><div class="wide">{drawn}</div>'


def _page(study: optuna.Study, result: Mapping[str, Any], sections: list[str]) -> str:
    escape = html.escape
    name = f"{result['algorithm']}, {result['ways']}-way {result['shots']}-shot, {result['dataset']} {result['split']}"
    best = "".join(
        f"<li><code>{escape(key)}: {escape(shown(value))}</code></li>" for key, value in result["params"].items()
    )
    how = (
        f"Trial {result['trial']} of {result['trials']} ({result['finished']} finished, {result['pruned']} pruned, "
        f"{result['failed']} failed) did best on validation classes: "
        f"{100 * result['trial_validation_accuracy']:.2f} %. This is the highest of many accuracies, so it is "
        "biased upwards; the test is on classes that no choice depended on."
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>Search: {escape(name)}</title><style>{STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head><body>",
            f"<h1>Search: {escape(name)}</h1>",
            f"<p>{escape(how)}</p><ul>{best}</ul>",
            f"<p>{'<br>'.join(escape(line) for line in in_words(dict(result)).splitlines())}</p>",
            "<p>The pictures show pruned trials with the accuracy that they had reached.</p>",
            *sections,
            "<h2>Trials</h2>",
            f'<div class="wide">{_all_trials(study, result["trial"])}</div>',
            "</body></html>",
        ]
    )


def _all_trials(study: optuna.Study, best: int) -> str:
    trials = ranked(study)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    head = ("trial", "validation", "", "iterations", "seconds", *keys, "why it failed")
    rows = [
        f"<tr{' class=best' if trial.number == best else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(trial, keys))
        + f'<td class="reason">{html.escape(in_flags(str(trial.user_attrs.get("reason", ""))))}</td></tr>'
        for trial in trials
    ]
    return f"<table><tr>{''.join(f'<th>{html.escape(word)}</th>' for word in head)}</tr>{''.join(rows)}</table>"


def _cells(trial: FrozenTrial, keys: list[str]) -> list[str]:
    facts = trial.user_attrs
    seconds = f"{facts['train_seconds']:.1f}" if "train_seconds" in facts else ""
    values = [shown(trial.params[key]) if key in trial.params else "" for key in keys]
    return [
        str(trial.number),
        _percent(trial),
        STATES[trial.state],
        f"{facts.get('iterations', 0):,}",
        seconds,
        *values,
    ]


def _percent(trial: FrozenTrial) -> str:
    return "" if trial.value is None else f"{100 * trial.value:.2f} %"
