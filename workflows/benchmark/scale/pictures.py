"""Pictures of measurements and model, in Okabe and Ito's colours, distinct to colour-blind people."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
MARKERS = ("o", "s", "^", "D")
SIZE = (10, 4)  # inches


def pictures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """The pictures of a run by name."""
    measured = {name: part for name, part in result["reductions"].items() if part["points"]}
    found = {"efficiency": _panels(measured, _efficiency, "efficiency, %")} if measured else {}
    modelled = {name: part for name, part in result["reductions"].items() if "model" in part}
    if modelled:
        found["cost"] = _panels(modelled, _cost, "ms a meta-iteration")
        found["paper"] = _panels(modelled, _paper, "efficiency on paper, %")
    return found


def _panels(reductions: Mapping[str, Any], draw: Any, label: str) -> Figure:
    """A panel for each reduction, side by side, with one scale."""
    figure, axes = pyplot.subplots(1, len(reductions), figsize=SIZE, sharey=True, squeeze=False, layout="constrained")
    for axis, (name, found) in zip(axes[0], reductions.items(), strict=True):
        draw(axis, found)
        axis.set_title(name)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel(label)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if len(labels) <= 4 else 3, frameon=False)
    return figure


def _efficiency(axis: Axes, found: Mapping[str, Any]) -> None:
    """Efficiency against workers, weak scaling by sleep, and strong scaling."""
    lines = [
        (
            f"a chunk of {1000 * sleep:g} ms a worker",
            [point for point in _of(found, "weak") if point["seconds"] == sleep],
        )
        for sleep in sorted({point["seconds"] for point in _of(found, "weak")})
    ]
    strong = _of(found, "strong")
    if strong:
        lines.append((f"{strong[0]['chunks']} chunks of {1000 * strong[0]['seconds']:g} ms", strong))
    for place, (label, points) in enumerate(lines):
        style = "--" if points is strong else "-"
        axis.plot(
            [point["workers"] for point in points],
            [100 * point["measured"]["efficiency"] for point in points],
            style,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            label=label,
        )
    axis.axhline(80, color="grey", linewidth=0.8, linestyle=":")
    axis.set_ylim(0, 105)
    _by_workers(axis, [point["workers"] for point in found["points"]])


def _cost(axis: Axes, found: Mapping[str, Any]) -> None:
    """An iteration's time beyond its chunks, measured and fitted, and its CPU time, with a chunk a worker."""
    sleeps = sorted({point["seconds"] for point in _of(found, "weak")})
    middle = sleeps[(len(sleeps) - 1) // 2]
    rows = [
        (point, predicted)
        for point, predicted in zip(found["points"], found["predicted"], strict=True)
        if point["kind"] == "weak" and point["seconds"] == middle
    ]
    workers = [point["workers"] for point, _ in rows]
    beyond = [1000 * (point["measured"]["seconds"] - middle) for point, _ in rows]
    fitted = [1000 * (predicted - middle) for _, predicted in rows]
    axis.plot(workers, beyond, "o", color=COLOURS[0], label=f"beyond chunks of {1000 * middle:g} ms")
    axis.plot(workers, fitted, "-", color=COLOURS[0], label="the same, fitted")
    for place, (name, label) in enumerate(
        (("scheduler", "CPU of the scheduler"), ("workers", "CPU of all workers")), 1
    ):
        used = [1000 * point["measured"][name] for point, _ in rows]
        axis.plot(workers, used, "--", color=COLOURS[place], marker=MARKERS[place], label=label)
    axis.set_yscale("log")
    _by_workers(axis, workers)


def _paper(axis: Axes, found: Mapping[str, Any]) -> None:
    """Projected efficiency against the meta-batch by GPUs: with a core for every process, and on this machine."""
    most = max(point["workers"] for point in found["points"])
    for place, curve in enumerate(found["paper"]["curves"]):
        for basis, style, said in (("best", "-", "at best"), ("worst", ":", "at worst")):
            if basis == "best" or curve["gpus"] <= most:
                label = f"{curve['gpus']:,} GPUs, {said}"
                shown = [100 * value for value in curve[basis]]
                axis.plot(curve["batches"], shown, style, color=COLOURS[place], label=label)
    axis.set_xscale("log")
    axis.set_ylim(0, 105)
    axis.set_xlabel("tasks a meta-batch")


def _by_workers(axis: Axes, workers: Sequence[int]) -> None:
    ticks = sorted(set(workers))
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlabel("simulated workers")


def _of(found: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return sorted((point for point in found["points"] if point["kind"] == kind), key=lambda point: point["workers"])
