"""The page's figure of a search: each trial's validation accuracy at its rungs."""

from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, LayoutDOM, NumeralTickFormatter
from bokeh.models.renderers import DataRenderer

from fanfold.pipeline.dashboard.board import Run, Trial
from fanfold.pipeline.dashboard.style import BLUE, DARK_GREY, GREEN, PURPLE, legend_below, make_figure

COLOURS = {"running": BLUE, "finished": GREEN, "pruned": DARK_GREY, "failed": PURPLE}  # as in pieces.css
DASHES = {"running": "solid", "finished": "solid", "pruned": "dashed", "failed": "dotted"}
COLUMNS = ("iteration", "accuracy", "number", "params")


class Trials:
    """A line a trial, in the colour of its state."""

    def __init__(self) -> None:
        self._shown: tuple[int, int] | None = None
        self._figure = make_figure("trials", "Trials at their rungs", "validation accuracy", DataRange1d())
        self._figure.yaxis.formatter = NumeralTickFormatter(format="0 %")
        self._figure.height = 340
        self._sources = {}
        lines: list[DataRenderer] = []
        for state, colour in COLOURS.items():
            source = self._sources[state] = ColumnDataSource({c: [] for c in COLUMNS}, name=f"trials-{state}")
            line = self._figure.multi_line(
                "iteration",
                "accuracy",
                source=source,
                color=colour,
                line_dash=DASHES[state],
                line_width=2,
                legend_label=state,
            )
            lines.append(line)
        # A trial with a single rung has no line yet.
        self._ends = ColumnDataSource({"iteration": [], "accuracy": [], "colour": []})
        self._figure.scatter("iteration", "accuracy", color="colour", size=6, source=self._ends)
        self._figure.add_tools(HoverTool(tooltips=[("trial", "@number"), ("", "@params")], renderers=lines))
        legend_below(self._figure)

    @property
    def roots(self) -> list[LayoutDOM]:
        """The figure."""
        return [self._figure]

    def show(self, run: Run | None) -> None:
        """Show a search's trials; a training has none."""
        self._figure.visible = run is not None and run.started["what"] == "search"
        if run is None or not self._figure.visible or self._shown == (id(run), run.version):
            return
        self._shown = (id(run), run.version)
        for state, source in self._sources.items():
            trials = [trial for trial in run.trials.values() if trial.told["state"] == state and len(trial.rungs)]
            source.data = {
                "iteration": [[rung.iteration for rung in trial.rungs] for trial in trials],
                "accuracy": [[rung.accuracy for rung in trial.rungs] for trial in trials],
                "number": [trial.told["number"] for trial in trials],
                "params": [_in_words(trial) for trial in trials],
            }
        judged = [(trial, last) for trial in run.trials.values() if (last := trial.rungs.last) is not None]
        self._ends.data = {
            "iteration": [rung.iteration for _, rung in judged],
            "accuracy": [rung.accuracy for _, rung in judged],
            "colour": [COLOURS[trial.told["state"]] for trial, _ in judged],
        }


def _in_words(trial: Trial) -> str:
    return ", ".join(f"{key} {value}" for key, value in trial.told["params"].items())
