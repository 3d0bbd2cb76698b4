"""The page's HTML: a run's state, its configuration, its trials, its last validation tasks."""

from collections.abc import Callable
from pathlib import Path

from bokeh.models import LayoutDOM
from bokeh.models.widgets import Div
from jinja2 import Environment, FileSystemLoader

from fanfold.data.advice import paced
from fanfold.pipeline.dashboard.board import Run, Trial
from fanfold.pipeline.events import format_duration

TEMPLATES = Path(__file__).parent / "templates"
PIECES = ("status", "tasks", "table", "configuration")
ROWS = 30  # of the table of trials


class Pieces:
    """Pieces of HTML, each from the template's macro of its name; values are escaped."""

    def __init__(self) -> None:
        environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
        environment.filters |= {
            "percent": percent,
            "duration": format_duration,
            "milliseconds": milliseconds,
            "paced": paced,
        }
        # Bokeh isolates every piece: the page's style sheet does not apply inside.
        style = (TEMPLATES / "pieces.css").read_text()
        self._macros = environment.get_template("pieces.html").module
        self._divs = {
            name: Div(name=name, text="", disable_math=True, sizing_mode="stretch_width", stylesheets=[style])
            for name in PIECES
        }

    @property
    def roots(self) -> list[LayoutDOM]:
        """The pieces."""
        return list(self._divs.values())

    def show(self, run: Run | None) -> None:
        """Show the state of a run."""
        for name, piece in self._divs.items():
            macro: Callable[..., str] = getattr(self._macros, name)
            text = str(macro(run, ranking(run) if run else []))
            if piece.text != text:
                piece.text = text


def ranking(run: Run) -> list[Trial]:
    """A search's trials: running ones, then the others, each kind from the best."""
    trials = sorted(run.trials.values(), key=lambda trial: trial.told["accuracy"] or 0.0, reverse=True)
    return sorted(trials, key=lambda trial: trial.told["state"] != "running")[:ROWS]


def percent(value: float | None) -> str:
    """A share of 1 in percent."""
    return "–" if value is None else f"{100 * value:.2f} %"


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, with about three digits."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
