"""The terminal's view of a run: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from fanfold.data.advice import counted, paced, uncontrolled
from fanfold.pipeline.events import (
    Embedding,
    Event,
    KernelsCompiling,
    Noticed,
    ReductionPicked,
    TrainingEnded,
    TrainingStarted,
    Validated,
    WindowEnded,
    format_duration,
    seconds_left,
    share_done,
)

QUIET = 10.0  # seconds between plain lines
DOT = " · "
BAR = 8  # the least width of a bar, in columns


class Terminal:
    """Shows the progress of one run, or of several at once; by default on standard error.

    `reword` words every message before it is shown, as a command does that shows configuration fields as flags.
    """

    def __init__(self, reword: Callable[[str], str] = str, console: Console | None = None) -> None:
        self._reword = reword
        self.console = console or Console(file=sys.stderr, highlight=False)
        self.bars = Progress(
            _Fitted(self.console),
            BarColumn(bar_width=None),
            _Fitted(self.console, status=True),
            console=self.console,
            disable=not self.console.is_terminal,
            refresh_per_second=2,  # a window takes seconds, and drawing more often would slow the workers
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    @property
    def live(self) -> bool:
        """Whether bars are drawn; else plain lines tell how the run goes."""
        return self.console.is_terminal

    def say(self, message: str, style: str | None = None) -> None:
        """Show a message above the bars."""
        self.console.print(uncontrolled(self._reword(message)), style=style, markup=False, soft_wrap=True)


class _Fitted(ProgressColumn):
    """A task's name, or its status, as much as leaves room for the bar."""

    def __init__(self, console: Console, status: bool = False) -> None:
        super().__init__(Column(no_wrap=True))
        self._console, self._status = console, status

    def render(self, task: Task) -> Text:
        """The text, on one line."""
        width = self._console.width
        name = fitted([task.description], width // 3)
        if not self._status:
            return Text(name, style="bold", no_wrap=True)
        room = width - len(name) - BAR - 2  # a space before and after the bar
        return Text(fitted(task.fields["status"].split(DOT), room, task.fields.get("last", True)), no_wrap=True)


def fitted(parts: Sequence[str], room: int, last: bool = True) -> str:
    """As many parts as fit into some columns: the last ones, or the first ones. The only one is cut."""
    parts = list(parts)
    while len(parts) > 1 and len(DOT.join(parts)) > room:
        parts.pop(0 if last else -1)
    text = DOT.join(parts)
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


class Counted:
    """Shows how many pictures are done: a bar on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, terminal: Terminal, what: str, total: int) -> None:
        self._terminal, self._what, self._total = terminal, what, total
        self._task = terminal.bars.add_task(what, total=total, status="")
        self._began = self._shown_at = time.monotonic()

    def __call__(self, done: int) -> None:
        """Show how many are done."""
        now = time.monotonic()
        pace = done / max(now - self._began, 1e-3)
        left = format_duration((self._total - done) / pace) if done else "?"
        status = f"{done:,} of {counted(self._total, 'picture')} · {paced(pace)} pictures/s · {left} left"
        self._terminal.bars.update(self._task, completed=done, status=status)
        if not self._terminal.live and now - self._shown_at > QUIET:
            self._shown_at = now
            self._terminal.say(f"{self._what}: {status}")


class RunProgress:
    """Shows a run's loss, accuracy, tasks a second and time left. Listens to its events.

    Loss and accuracy are of training tasks, as running means in which the newest iteration has a weight of 1 / 50.

    A name is for a terminal that shows several runs.
    """

    def __init__(self, terminal: Terminal, name: str | None = None) -> None:
        self._terminal, self._bar = terminal, terminal.bars
        self._name = name or "meta-training"
        self._prefix = f"{name}: " if name else ""
        self._task: TaskID | None = None
        self._started = TrainingStarted("", 0, None, 0.0, None)
        self._loss: float | None = None
        self._embedded: Counted | None = None
        self._accuracy = 0.0
        self._shown_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case TrainingStarted():
                self._started = event
                self._task = self._bar.add_task(self._name, total=1.0, status="starting")
            case KernelsCompiling():
                self._compiling()
            case Embedding():
                self._embedded = self._embedded or Counted(self._terminal, "embedding", event.pictures)
                self._embedded(event.done)
            case WindowEnded():
                self._window(event)
            case Validated():
                best = ", best so far" if event.best else ""
                self._say(
                    f"iteration {event.iteration:,}: validation accuracy "
                    f"{100 * event.accuracy:.2f} ± {100 * event.ci95:.2f} %{best}"
                )
            case Noticed():
                self._say(event.text)
            case ReductionPicked() if event.why:
                self._say(f"reduction: {event.reduction} ({event.why})")
            case TrainingEnded():
                if self._task is not None:
                    self._bar.update(self._task, completed=1.0)

    def _say(self, text: str) -> None:
        self._terminal.say(self._prefix + text)

    def _compiling(self) -> None:
        status = "preparing the workers: the first time on a machine, kernels are compiled for some 20 s"
        if self._task is not None:
            self._bar.update(self._task, status=status)
        if not self._terminal.live:
            self._say(status)

    def _window(self, event: WindowEnded) -> None:
        for record in event.records:
            weight = 1.0 if self._loss is None else 0.02
            self._loss = (1 - weight) * (self._loss or 0.0) + weight * record.loss
            self._accuracy = (1 - weight) * self._accuracy + weight * record.accuracy
        iteration = event.records[-1].iteration + 1
        status = (
            f"iteration {iteration:,} · loss {self._loss:.3f} · accuracy {100 * self._accuracy:.1f} % · "
            f"{paced(event.tasks_per_second)} tasks/s · {format_duration(seconds_left(self._started, event))} left"
        )
        if self._task is not None:
            self._bar.update(self._task, completed=share_done(self._started, event), status=status)
        if not self._terminal.live and time.monotonic() - self._shown_at > QUIET:
            self._shown_at = time.monotonic()
            self._say(status)
