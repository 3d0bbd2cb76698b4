"""Waiting for something to happen, within a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: Callable[[], T], seconds: float = 30, pause: float = 0.02) -> T:
    """What `what` says once it says something true; fails when it hasn't for so many seconds.

    Args:
        what: Asked again and again.
        seconds: The bound.
        pause: Seconds between questions.
    """
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(pause)
    return found
