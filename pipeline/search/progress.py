"""The terminal's view of a search: a bar for each running trial and one for all. Elsewhere, a line for each end."""

import time
from collections.abc import Iterable, Mapping

from rich.progress import TaskID

from fanfold.pipeline.events import Noticed
from fanfold.pipeline.recording.progress import QUIET, Terminal
from fanfold.pipeline.search.events import SearchEvent, TrialEnded, TrialReached
from fanfold.pipeline.search.params import Value
from fanfold.pipeline.search.study import Counts


class SearchProgress:
    """Shows a search's trials, the best so far, and how many were pruned and failed. Listens to its events.

    `counts` are the trials so far, `best` is the best accuracy and its trial's number; None before any finished.
    """

    def __init__(self, terminal: Terminal, trials: int, counts: Counts, best: tuple[float, int] | None) -> None:
        self._terminal, self._bars = terminal, terminal.bars
        self._trials, self._best = trials, best
        self._ended = {"finished": counts.finished, "pruned": counts.pruned, "failed": counts.failed}
        self._lines: dict[int, TaskID] = {}
        self._shown_at: dict[int, float] = {}
        self._all = self._bars.add_task("search", total=trials, completed=counts.ended, status=self.summary, last=False)

    @property
    def summary(self) -> str:
        """The state of the search in words."""
        ended = self._ended
        best = "none finished yet" if self._best is None else f"best {_percent(self._best[0])} (trial {self._best[1]})"
        over = f"{sum(ended.values())} of {self._trials} trials"
        return f"{over} · {best} · {ended['pruned']} pruned · {ended['failed']} failed"

    def __call__(self, event: SearchEvent) -> None:
        """Show an event."""
        match event:
            case TrialReached():
                self._reached(event)
            case TrialEnded():
                self._over(event)
            case Noticed():
                self._terminal.say(event.text)

    def _reached(self, event: TrialReached) -> None:
        number = event.number
        if number not in self._lines:
            self._lines[number] = self._bars.add_task(f"trial {number}", total=event.iterations, status="", last=False)
            self._shown_at[number] = time.monotonic()
        accuracy = "" if event.accuracy is None else f" · {_percent(event.accuracy)}"
        of = "" if event.iterations is None else f" of {event.iterations:,}"
        status = f"iteration {event.iteration:,}{of}{accuracy} · {in_short(event.params)}"
        self._bars.update(self._lines[number], completed=event.iteration, status=status)
        if not self._terminal.live and time.monotonic() - self._shown_at[number] > QUIET:
            self._shown_at[number] = time.monotonic()
            self._terminal.say(f"trial {number} · {status}")

    def _over(self, event: TrialEnded) -> None:
        if event.number in self._lines:
            self._bars.remove_task(self._lines.pop(event.number))
        self._ended[event.state] += 1
        what = f"{event.state} after {event.iteration:,} iterations"
        if event.accuracy is not None:
            what = f"{_percent(event.accuracy)}, {what}"
        if event.reason is not None:
            what += f": {event.reason}"
        accuracy = event.accuracy if event.state == "finished" else None
        if accuracy is not None and (self._best is None or accuracy > self._best[0]):
            self._best = (accuracy, event.number)
            what += ", best so far"
        self._bars.update(self._all, advance=1, status=self.summary)
        style = "red" if event.reason else None
        self._terminal.say(f"trial {event.number}: {what} · {in_short(event.params)}", style)
        if not self._terminal.live and sum(self._ended.values()) % 10 == 0:
            self._terminal.say(self.summary)


def in_short(params: Mapping[str, Value]) -> str:
    """Parameters in words, with short names."""
    names = short_names(params)
    return ", ".join(f"{names[key]} {shown(value)}" for key, value in params.items())


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Keys without their sections, where the names stay unique."""
    short = {key: key.rpartition(".")[2] for key in keys}
    names = list(short.values())
    return {key: name if names.count(name) == 1 else key for key, name in short.items()}


def shown(value: Value) -> str:
    """A parameter's value, with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _percent(accuracy: float) -> str:
    return f"{100 * accuracy:.2f} %"
