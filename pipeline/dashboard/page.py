"""The page: a Bokeh document that Dask's dashboard server shows beside its own pages."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import distributed
from bokeh.document import Document
from bokeh.models import LayoutDOM
from bokeh.models.widgets import Select
from bokeh.server.tornado import BokehTornado
from distributed import Scheduler
from distributed.dashboard.components.scheduler import BOKEH_THEME
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from jinja2 import ChoiceLoader, Environment, FileSystemLoader
from tornado.ioloop import IOLoop

from fanfold.pipeline.dashboard.board import Board, Run
from fanfold.pipeline.dashboard.curves import Curves
from fanfold.pipeline.dashboard.pieces import Pieces
from fanfold.pipeline.dashboard.trials import Trials
from fanfold.pipeline.dashboard.workers import Workers

NAME = "fanfold"
DASK_TEMPLATES = Path(distributed.__file__).parent / "http" / "templates"
EVERY = 1000  # milliseconds between updates while someone has the page open
NEWEST = ""


class Panel(Protocol):
    """A part of the page."""

    @property
    def roots(self) -> list[LayoutDOM]:
        """Its elements, each with the name by which the template places it."""

    def show(self, run: Run | None) -> None:
        """Show the state of a run."""


class Page:
    """One visitor's page, with the run that the visitor chose."""

    def __init__(self, board: Board, panels: list[Panel]) -> None:
        self._board, self._panels = board, panels
        self.select = Select(name="select", title="Run", value=NEWEST)
        self.select.on_change("value", lambda attr, old, new: self.update())

    def update(self) -> None:
        """Show the present state."""
        runs = self._board.runs
        newest_first = reversed(runs.items())
        options: list[str | tuple[Any, str]] = [
            (NEWEST, "the newest"),
            *((name, f"{run.started['name']} · {run.state}") for name, run in newest_first),
        ]
        if options != self.select.options:
            self.select.options = options
        run = runs.get(self.select.value) or self._board.newest()
        for panel in self._panels:
            panel.show(run)


def make_document(board: Board, scheduler: Scheduler, extra: Mapping[str, Any], document: Document) -> None:
    """Fill a new document when someone opens the page. `extra` has the variables of Dask's templates."""
    panels: list[Panel] = [Pieces(), Curves(), Workers(scheduler), Trials()]
    page = Page(board, panels)
    page.update()
    document.title = "Fanfold"
    document.theme = BOKEH_THEME
    document.template = _templates().get_template("page.html")
    document.template_variables.update(extra)
    for root in (page.select, *(root for panel in panels for root in panel.roots)):
        document.add_root(root)
    document.add_periodic_callback(page.update, EVERY)


def add_page(scheduler: Scheduler, board: Board) -> BokehTornado:
    """Add the page to a scheduler's dashboard, and to its menu.

    Raises:
        LookupError: The scheduler has no dashboard.
    """
    served = scheduler.http_application.applications
    dashboard = next((application for application in served if isinstance(application, BokehTornado)), None)
    if dashboard is None:
        raise LookupError("it was started without")
    variables = template_variables(scheduler)  # the same object as that of Dask's pages
    if NAME not in variables["pages"]:
        variables["pages"].insert(variables["pages"].index("workers") + 1, NAME)
    documents = {f"/{NAME}": partial(make_document, board)}
    page: BokehTornado = BokehApplication(documents, scheduler, prefix=dashboard.prefix, template_variables=variables)
    scheduler.http_application.add_application(page)
    page.initialize(IOLoop.current())
    page.start()
    return page


def _templates() -> Environment:
    fanfold = FileSystemLoader(Path(__file__).parent / "templates")
    # Dask's templates are HTML, and hold names of its pages alone; what comes from runs is in `pieces`, escaped.
    return Environment(loader=ChoiceLoader([fanfold, FileSystemLoader(DASK_TEMPLATES)]))  # noqa: S701
