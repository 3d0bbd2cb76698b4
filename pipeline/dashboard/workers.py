"""The page's workers: tasks a second, load and memory of each; stragglers are marked."""

from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, HoverTool, LayoutDOM, Range1d
from bokeh.models.annotations import Title
from bokeh.plotting import figure
from distributed import Scheduler
from distributed.scheduler import WorkerState

from fanfold.pipeline.dashboard.board import Pace, Run
from fanfold.pipeline.dashboard.style import BLUE, ORANGE, SKY

SHOWN = 48  # workers at most, the slowest ones
COLUMNS = ("worker", "address", "tasks", "colour", "mark", "busy", "memory", "slowness")
GIB = 1 << 30


class Workers:
    """Three bar charts with one row a worker."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._source = ColumnDataSource({column: [] for column in COLUMNS}, name="workers")
        self._percent = Range1d(start=0, end=100)
        rows = FactorRange(factors=[])
        self._rows = rows
        self._tasks = _bars("worker_tasks", "Throughput of workers", "tasks / s", rows, self._source, "tasks", "colour")
        self._tasks.text(
            x="tasks",
            y="worker",
            text="mark",
            source=self._source,
            text_baseline="middle",
            x_offset=6,
            text_font_size="12px",
            text_color="#8a3d00",
        )
        self._busy = _bars("worker_busy", "CPU", "%", rows, self._source, "busy", SKY)
        self._busy.x_range = self._percent
        self._memory = _bars("worker_memory", "Memory", "GiB", rows, self._source, "memory", SKY)
        tips = [
            ("worker", "@address"),
            ("tasks a second", "@tasks{0,0.[00]}"),
            ("time a task", "@slowness{0.00} × the usual"),
        ]
        self._tasks.add_tools(HoverTool(tooltips=tips))
        # Room for the mark beside the longest bar.
        self._tasks.x_range = DataRange1d(start=0, range_padding=0.35)

    @property
    def roots(self) -> list[LayoutDOM]:
        """Throughput, use and memory."""
        return [self._tasks, self._busy, self._memory]

    def show(self, run: Run | None) -> None:
        """Show the cluster's workers in a run."""
        # A search's trials report only at their rungs, so their workers have no throughput to show.
        self._tasks.visible = run is None or run.started["what"] == "training"
        paces = run.paces() if run is not None and run.state == "running" else {}
        states = list(self._scheduler.workers.values())
        gpus = bool(states) and all("gpu_utilization" in state.metrics for state in states)
        found = (_row(state, paces.get(state.address), gpus) for state in states)
        rows = sorted(found, key=lambda row: -row["slowness"])[:SHOWN]
        rows.sort(key=lambda row: (len(row["worker"]), row["worker"]), reverse=True)  # the first on top; 10 after 9
        names = [row["worker"] for row in rows]
        if self._rows.factors != names:
            self._rows.factors = names
            for shown in self.roots:
                shown.height = 90 + 26 * max(len(names), 2)
        of = f", the {SHOWN} slowest of {len(states)}" if len(states) > SHOWN else ""
        stragglers = sum(pace.straggles for pace in paces.values())
        behind = f" · {stragglers} behind: ▲ times the others' time a task" if stragglers else ""
        self._percent.end = max([100.0, *(row["busy"] for row in rows)])  # a process may take several cores
        _entitle(self._tasks, f"Workers' throughput{of}{behind}")
        _entitle(self._busy, "GPU utilization" if gpus else "CPU utilization")
        _entitle(self._memory, "GPU memory" if gpus else "Memory of the process")
        data: dict[str, Any] = {column: [row[column] for row in rows] for column in COLUMNS}
        if data != self._source.data:
            self._source.data = data


def _row(state: WorkerState, pace: Pace | None, gpus: bool) -> dict[str, Any]:
    metrics, straggles = state.metrics, pace is not None and pace.straggles
    host = state.address.rpartition("://")[2]
    slowness = pace.slowness if pace else 1.0
    return {
        "worker": str(state.name) if state.name not in (None, state.address) else host,
        "address": state.address,
        "tasks": pace.tasks_per_second if pace else 0.0,
        "colour": ORANGE if straggles else BLUE,
        "mark": f"▲ {slowness:.1f} ×" if straggles else "",
        "busy": float(metrics.get("gpu_utilization" if gpus else "cpu") or 0.0),
        "memory": float(metrics.get("gpu_memory_used" if gpus else "memory") or 0) / GIB,
        "slowness": slowness,
    }


def _bars(
    name: str, title: str, unit: str, rows: FactorRange, source: ColumnDataSource, column: str, colour: str
) -> figure:
    made = figure(
        name=name,
        title=title,
        x_axis_label=unit,
        y_range=rows,
        x_range=DataRange1d(start=0),
        height=150,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
    )
    made.hbar(y="worker", right=column, height=0.7, source=source, color=colour)
    made.ygrid.visible = False
    made.xgrid.grid_line_alpha = 0.4
    made.axis.minor_tick_line_color = None
    return made


def _entitle(made: figure, text: str) -> None:
    if isinstance(made.title, Title):
        made.title.text = text
