"""A notebook's view of a run: bars as HTML, which needs no widgets, and lines below them."""

import html
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.progress import TaskID

from fanfold.pipeline.recording.progress import Terminal

SECONDS = 0.5  # between two drawings of the bars


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    found = sys.modules.get("IPython")
    return found is not None and hasattr(found.get_ipython(), "kernel")


class NotebookTerminal(Terminal):
    """Shows progress in a cell's output."""

    def __init__(self, reword: Callable[[str], str] = str) -> None:
        super().__init__(reword)
        self.bars: Any = NotebookBars()

    @property
    def live(self) -> bool:
        """The bars are drawn, so that no lines stand in for them."""
        return True

    def say(self, message: str, style: str | None = None) -> None:
        """Show a line below the bars."""
        print(self._reword(message), flush=True)


@dataclass
class _Bar:
    description: str
    total: float | None
    completed: float = 0.0
    status: str = ""

    def html(self) -> str:
        """The bar as a row of a table."""
        value = "" if self.total is None else f" value='{self.completed:.4g}' max='{self.total:.4g}'"
        return (
            f"<tr style='background: none'><td style='text-align: left'><b>{html.escape(self.description)}</b></td>"
            f"<td><progress{value}></progress></td><td style='text-align: left'>{html.escape(self.status)}</td></tr>"
        )


class NotebookBars:
    """Bars in one cell's output, drawn anew where they are: what `rich.progress.Progress` is on a terminal."""

    def __init__(self) -> None:
        self._bars: dict[TaskID, _Bar] = {}
        self._next = 0
        self._handle: Any = None
        self._drawn = 0.0

    def start(self) -> None:
        """Begin; nothing is drawn before there is a bar."""
        return

    def stop(self) -> None:
        """Draw the bars as they stand at the end."""
        self._draw(now=True)

    def add_task(
        self, description: str, total: float | None = None, completed: float = 0.0, status: str = "", **_: object
    ) -> TaskID:
        """Add a bar; how it fits a terminal's width means nothing here."""
        task = TaskID(self._next)
        self._next += 1
        self._bars[task] = _Bar(description, total, completed, status)
        self._draw(now=True)
        return task

    def update(
        self,
        task: TaskID,
        *,
        total: float | None = None,
        completed: float | None = None,
        advance: float = 0.0,
        status: str | None = None,
    ) -> None:
        """Move a bar, or change what it says."""
        bar = self._bars[task]
        bar.completed = (bar.completed if completed is None else completed) + advance
        bar.total = bar.total if total is None else total
        bar.status = bar.status if status is None else status
        self._draw()

    def remove_task(self, task: TaskID) -> None:
        """Take a bar away."""
        del self._bars[task]
        self._draw(now=True)

    def _draw(self, now: bool = False) -> None:
        if not now and time.monotonic() - self._drawn < SECONDS:
            return
        from IPython.display import HTML, display  # only here: it is there in a notebook, and needed nowhere else

        self._drawn = time.monotonic()
        drawn = HTML(f"<table>{''.join(bar.html() for bar in self._bars.values())}</table>")
        if self._handle is not None:
            self._handle.update(drawn)
        elif self._bars:
            self._handle = display(drawn, display_id=True)
