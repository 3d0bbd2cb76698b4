"""Standard output and error that can't end a command: a reader left, a disk is full, a terminal lacks a letter."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fanfold.data.advice import uncontrolled


class Lasting:
    """A stream that loses what can't be written, and remembers why."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name
        self.error: OSError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or lose it. What a terminal would obey is only written to standard error, which draws bars."""
        try:
            self._stream.write(text if self._name == "standard error" else uncontrolled(text))
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or lose it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    @property
    def full(self) -> bool:
        """Whether text was lost that somebody waits for: not when a reader, such as `head`, has had enough."""
        return self.error is not None and self.error.errno not in (errno.EPIPE, errno.EINVAL)

    @property
    def reason(self) -> str:
        """Why text was lost, in words."""
        return f"{self._name} can't be written ({self.error and self.error.strerror})"

    def _lose(self, error: OSError) -> None:
        if self.error is not None:
            return
        self.error = error
        with suppress(OSError, ValueError):  # what is buffered would fail again, and once more at the process's end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if self.full and self._name == "standard output":
            print(f"{self.reason}: what it would say is lost", file=sys.stderr)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Write standard output and error by streams that last, in this block."""
    before = sys.stdout, sys.stderr
    if sys.stderr is not None:
        sys.stderr = Lasting(sys.stderr, "standard error")
    if sys.stdout is not None:
        sys.stdout = Lasting(sys.stdout, "standard output")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
