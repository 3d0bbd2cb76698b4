"""One writer at a time for what a driver writes: a run, a study, a table."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fanfold.data.advice import why
from fanfold.data.errors import FanfoldError


@contextmanager
def only_writer(path: Path, what: str) -> Iterator[None]:
    """Hold the lock in a file; it ends with the process, so that one left behind by a killed process is free.

    Args:
        path: The lock's file, beside what it protects. It stays, as its removal would let two processes in.
        what: What is protected, in words, for the error.

    Raises:
        FanfoldError: Another process holds the lock, or the file can't be written.
    """
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise FanfoldError(
            f"{what} is being written by {_holder(path)}: wait for its end, or name another with `run`."
        ) from error
    except (OSError, NotImplementedError) as error:
        raise FanfoldError(f"{what} can't be written ({why(error)}).") from error
    try:
        with suppress(OSError):  # on Windows, where a locked file can't be written; it only tells others who holds it
            path.write_text(json.dumps(_own()))
        yield
    finally:
        lock.release()


def _own() -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since}


def _holder(path: Path) -> str:
    """Who holds a lock, in words."""
    try:
        found = json.loads(path.read_text())
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, LookupError, TypeError):  # on Windows, a locked file can't be read
        return "another process"
