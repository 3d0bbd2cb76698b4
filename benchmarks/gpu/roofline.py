"""How near meta-gradients come to what the device can do: their time beside the larger of two floors.

One floor is a task's operations over the rate of a large product of matrices in the same precision, the other its
least bytes over the bandwidth of a copy; see `benchmarks.gpu.floors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.gpu.floors import Work, work_of_a_task
from benchmarks.gpu.options import Options, Row
from benchmarks.gpu.settings import SIZE, module_of, settings
from fanfold.tasks.derivatives.structure import structure_of

COLOURS = {"fanfold": "#0072b2", "vmap": "#e69f00", "jax": "#009e73", "higher": "#d55e00", "loop": "#cc79a7"}
MARKERS = {"a": "o", "b": "s", "c": "^", "d": "D"}
ROOFS = {"float32": "--", "tf32": "-"}


def works(options: Options) -> dict[str, Work]:
    """What a task takes, by setting."""
    found = {}
    for name, setting in settings(options).items():
        module, shape = module_of(setting), setting.shape
        structure = structure_of(module)
        assert structure is not None
        shapes = {key: value.shape for key, value in module.named_parameters()}
        of_images = shape.ways * shape.shots, shape.ways * shape.queries
        algorithm = replace(setting.algorithm, differentiation="reverse")
        found[name] = work_of_a_task(structure, shapes, SIZE, *of_images, algorithm)
    return found


def shares(of_tasks: Mapping[str, Work], ceilings: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """How near each measured meta-gradient comes to its floor.

    Args:
        of_tasks: What a task takes, by setting.
        ceilings: Rows of the part `ceilings`.
        measured: Rows with a setting, tasks, side and milliseconds.
    """
    rates, bandwidth = _ceilings(ceilings)
    rows = []
    for row in measured:
        rate = rates.get(_precision(row["side"]))
        if "ms" not in row or rate is None or bandwidth is None:
            continue
        work = of_tasks[row["setting"]] * row["tasks"]
        floors = {"operations": 1000 * work.operations / rate, "bytes": 1000 * work.bytes / bandwidth}
        larger = max(floors, key=floors.__getitem__)
        known = {key: row[key] for key in ("setting", "tasks", "side", "ms")}
        of_floor = {"of the floor %": 100 * floors[larger] / row["ms"], "floor": larger}
        rows.append(
            {**known, "floor of operations, ms": floors["operations"], "of bytes, ms": floors["bytes"]} | of_floor
        )
    return rows


def draw(of_tasks: Mapping[str, Work], ceilings: Sequence[Row], measured: Sequence[Row]) -> Figure:
    """Operations a second against operations a byte, below the roofs."""
    rates, bandwidth = _ceilings(ceilings)
    figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
    axis.set_xscale("log")
    axis.set_yscale("log")
    intensity = {name: work.operations / work.bytes for name, work in of_tasks.items()}
    if bandwidth is not None and rates:
        _draw_roofs(axis, rates, bandwidth, max(intensity.values()))
    known: set[str] = set()
    for row in measured:
        if "ms" not in row:
            continue
        side, setting = row["side"].split()[0], row["setting"]
        reached = of_tasks[setting].operations * row["tasks"] / row["ms"] / 1e9
        filled = COLOURS[side] if row["tasks"] >= 512 else "none"
        axis.plot(
            [intensity[setting]], [reached], MARKERS[setting], color=COLOURS[side], markerfacecolor=filled, markersize=7
        )
        known |= {side, setting}
    for side, colour in COLOURS.items():
        if side in known:
            axis.plot([], [], "o", color=colour, label=side)
    for setting, marker in MARKERS.items():
        if setting in known:
            axis.plot([], [], marker, color="black", markerfacecolor="none", label=f"setting ({setting})")
    axis.set_xlabel("operations a byte that must move, FLOP/B")
    axis.set_ylabel("rate, TFLOP/s")
    axis.set_title("Meta-gradients below the device's roofs; filled: 512 tasks at a time or more", fontsize=10)
    axis.grid(which="major", alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _draw_roofs(axis: Axes, rates: Mapping[str, float], bandwidth: float, largest: float) -> None:
    least, most = 1.0, 4 * max(largest, max(rates.values()) / bandwidth)
    for name, rate in rates.items():
        edge = rate / bandwidth
        ends = [least, edge, most]
        roof = [min(end * bandwidth, rate) / 1e12 for end in ends]
        axis.plot(ends, roof, ROOFS[name], color="black", linewidth=1)
        axis.annotate(f"{name}: {rate / 1e12:.3g} TFLOP/s", (most, rate / 1e12), ha="right", va="bottom", fontsize=8)
    middle = (least * min(rates.values()) / bandwidth) ** 0.5
    axis.annotate(
        f"copy: {bandwidth / 1e12:.3g} TB/s",
        (middle, middle * bandwidth / 1e12),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )


def _ceilings(rows: Sequence[Row]) -> tuple[dict[str, float], float | None]:
    """Operations a second by precision, and bytes a second."""
    known = {row["ceiling"]: row["value"] for row in rows if "value" in row}
    rates = {name: 1e12 * known[f"matrix product, {name}"] for name in ROOFS if f"matrix product, {name}" in known}
    return rates, 1e9 * known["copy"] if "copy" in known else None


def _precision(side: str) -> str:
    return "tf32" if "tf32" in side else "float32"
