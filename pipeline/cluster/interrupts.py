"""Ctrl-C while a cluster starts, and in the processes that it starts."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block, and keep it and a closed terminal from the processes started there.

    A terminal sends both to all processes of a command. A worker that starts would answer with a traceback, and a
    cluster that has half started can't be closed. Threads and processes inherit the signals that are blocked here, so
    the workers, whenever the cluster starts them, leave both to the driver, which ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    put_off = list[int]()

    def keep(number: int, _: FrameType | None) -> None:
        put_off.append(number)

    resource_tracker.ensure_running()  # which would unblock the signals of the thread that starts the first process
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    before = signal.getsignal(signal.SIGINT)
    takes = main and callable(before)  # whoever ignores Ctrl-C goes on to do so
    if takes:
        signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if takes:
            signal.signal(signal.SIGINT, before)
    if put_off and callable(before):
        before(put_off[0], None)
