"""The terminal's view of a count, of pictures that are labelled or embedded."""

import time

from fanfold.data.advice import counted
from fanfold.pipeline.events import format_duration
from fanfold.pipeline.recording.progress import QUIET, Terminal


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
        status = f"{done:,} of {counted(self._total, 'picture')} · {pace:.0f} pictures/s · {left} left"
        self._terminal.bars.update(self._task, completed=done, status=status)
        if not self._terminal.live and now - self._shown_at > QUIET:
            self._shown_at = now
            self._terminal.say(f"{self._what}: {status}")
