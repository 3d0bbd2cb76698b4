"""The page's curves against the iteration: loss, accuracy, tasks a second, and a meta-iteration's time by phase."""

from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, LayoutDOM, NumeralTickFormatter, Range1d
from bokeh.plotting import figure

from fanfold.pipeline.dashboard.board import PHASES, Run
from fanfold.pipeline.dashboard.style import BLUE, ORANGE, PHASE_COLOURS, legend_below, make_figure

JUDGED = ("iteration", "loss", "accuracy", "low", "high")
COLUMNS = ("iteration", "loss", "accuracy", "tasks_per_second", *PHASES)


class Curves:
    """Four figures with one horizontal axis."""

    def __init__(self) -> None:
        self._shown: tuple[int, int] | None = None
        self._curve = ColumnDataSource({column: [] for column in COLUMNS}, name="curve")
        self._validations = ColumnDataSource({column: [] for column in JUDGED}, name="validations")
        self._highest = Range1d(start=0, end=1)
        across = DataRange1d(bounds="auto", range_padding=0.02)
        self._figures = [self._loss(across), self._accuracy(across), self._speed(across), self._split(across)]

    @property
    def roots(self) -> list[LayoutDOM]:
        """Loss, accuracy, speed and split."""
        return list(self._figures)

    def show(self, run: Run | None) -> None:
        """Show a run's curves; a search has none."""
        training = run is not None and run.started["what"] == "training"
        for shown in self._figures:
            shown.visible = training
        if run is None or not training or self._shown == (id(run), run.version):
            return
        self._shown = (id(run), run.version)
        rows = [
            (s.iteration, s.loss, s.accuracy, s.tasks / s.seconds, *(1000 * value for value in s.split().values()))
            for s in run.curve
        ]
        self._curve.data = _columns(COLUMNS, rows)
        # In the first stretch workers warm up, which takes many times longer.
        took = [1000 * s.seconds / s.iterations for s in run.curve]
        self._highest.end = 1.15 * max(took[1:] or took or [1.0])
        judged = [(v.iteration, v.loss, v.accuracy, v.accuracy - v.ci95, v.accuracy + v.ci95) for v in run.validations]
        self._validations.data = _columns(JUDGED, judged)

    def _loss(self, across: DataRange1d) -> figure:
        made = make_figure("loss", "Loss", "loss (nats)", across)
        made.line("iteration", "loss", source=self._curve, color=BLUE, line_width=1.5, legend_label="training")
        judged = self._validations
        made.scatter("iteration", "loss", source=judged, color=ORANGE, size=6, legend_label="validation")
        made.line("iteration", "loss", source=judged, color=ORANGE, legend_label="validation")
        made.add_tools(HoverTool(tooltips=[("iteration", "@iteration{0,0}"), ("loss", "@loss{0.000}")], mode="vline"))
        return made

    def _accuracy(self, across: DataRange1d) -> figure:
        made = make_figure("accuracy", "Accuracy", "accuracy", across)
        made.yaxis.formatter = NumeralTickFormatter(format="0 %")
        made.line("iteration", "accuracy", source=self._curve, color=BLUE, line_width=1.5, legend_label="training")
        points = made.scatter(
            "iteration", "accuracy", source=self._validations, color=ORANGE, size=6, legend_label="validation, 95 %"
        )
        made.line("iteration", "accuracy", source=self._validations, color=ORANGE, legend_label="validation, 95 %")
        made.segment("iteration", "low", "iteration", "high", source=self._validations, color=ORANGE)
        tips = [("iteration", "@iteration{0,0}"), ("validation", "@accuracy{0.0 %}")]
        made.add_tools(HoverTool(tooltips=tips, renderers=[points]))
        made.legend.location = "bottom_right"
        return made

    def _speed(self, across: DataRange1d) -> figure:
        made = make_figure("speed", "Training tasks a second", "tasks / s", across)
        made.y_range = DataRange1d(start=0)
        made.line("iteration", "tasks_per_second", source=self._curve, color=BLUE, line_width=1.5)
        tips = [("iteration", "@iteration{0,0}"), ("tasks a second", "@tasks_per_second{0,0.[00]}")]
        made.add_tools(HoverTool(tooltips=tips, mode="vline"))
        return made

    def _split(self, across: DataRange1d) -> figure:
        made = make_figure("split", "A meta-iteration, mean of the workers", "ms", across)
        made.y_range = self._highest
        made.varea_stack(
            list(PHASES),
            x="iteration",
            source=self._curve,
            color=PHASE_COLOURS,
            legend_label=list(PHASES),
            fill_alpha=0.85,
        )
        legend_below(made)
        return made


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
