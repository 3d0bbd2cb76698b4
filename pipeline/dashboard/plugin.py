"""The scheduler's side: it feeds the board, and adds the page and the metrics."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from distributed import Client, Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from fanfold.data.advice import one_line
from fanfold.pipeline.dashboard.board import Board
from fanfold.pipeline.messages import TOPIC, understood

ANSWER = 60.0  # seconds within which a scheduler adds the page
COMPUTED = ("adapt", "fold", "step")  # the first words of the keys of a window's tasks


class BoardPlugin(SchedulerPlugin):
    """Gives the board the messages of drivers and workers, and the durations of tasks."""

    name = "fanfold"

    def __init__(self, scheduler: Scheduler) -> None:
        self.board = Board()
        self._scheduler = scheduler
        self.missing: str | None = None
        self._page: Any = None
        self._hide: Callable[[], None] = lambda: None

    def add_page_and_metrics(self) -> None:
        """Add the page and the metrics."""
        # Imported here: drivers and workers import this module too, and may lack Bokeh.
        from fanfold.pipeline.dashboard import prometheus

        prometheus.show(self.board)
        self._hide = partial(prometheus.hide, self.board)
        try:
            from fanfold.pipeline.dashboard.page import add_page

            self._page = add_page(self._scheduler, self.board)
        except (ImportError, LookupError) as error:
            self.missing = f"no Fanfold page: the scheduler has no dashboard ({one_line(error)})"

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by Dask with every event."""
        if topic == TOPIC and (message := understood(msg)) is not None:
            with suppress(ArithmeticError, LookupError, ValueError):  # numbers that fit no others, as of no iterations
                self.board.hear(message)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **facts: Any) -> None:
        """Called by Dask with every change of every task's state, so it must be fast."""
        if finish != "memory" or start != "processing" or type(key) is not tuple:
            return
        phase, _, of = str(key[0]).partition("-")
        run = self.board.runs.get(of)
        if run is None or phase not in COMPUTED:
            return
        took = {"compute": 0.0, "transfer": 0.0}
        for span in facts.get("startstops") or ():
            if span["action"] in took:
                took[span["action"]] += span["stop"] - span["start"]
        run.computed(facts["worker"], phase, int(key[-1]), took["compute"], took["transfer"])

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Called by Dask when a driver is gone."""
        self.board.lose(client)

    async def close(self) -> None:
        """Called by Dask when the scheduler closes."""
        self._hide()
        if self._page is not None:
            self._page.stop()


def install(dask_scheduler: Scheduler) -> str | None:
    """Add the page and the metrics to a scheduler, in its process, once.

    Returns:
        What is missing and why, in a line; None if nothing is.
    """
    plugin = dask_scheduler.plugins.get(BoardPlugin.name)
    if not isinstance(plugin, BoardPlugin):
        plugin = BoardPlugin(dask_scheduler)
        plugin.add_page_and_metrics()
        dask_scheduler.add_plugin(plugin)
    return plugin.missing


def offer(client: Client) -> str | None:
    """Add the page and the metrics to a client's scheduler, wherever it runs.

    Returns:
        What is missing and why, in a line; None if nothing is. A run does not need them.
    """
    try:
        missing: str | None = client.run_on_scheduler(install, callback_timeout=ANSWER)
    except Exception as error:  # a scheduler of another installation may raise anything
        how = ": install Fanfold where the scheduler runs" if isinstance(error, ImportError) else ""
        return f"no Fanfold page on the dashboard ({one_line(error)}){how}"
    return missing
