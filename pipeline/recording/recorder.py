"""Recorders keep the events of a run or search. A guarded one may fail, as on a full disk; the run goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from fanfold.data.advice import one_line

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class Recorder(Protocol[E_contra]):
    """Keeps the events of a run or search. Listens to them."""

    def __call__(self, event: E_contra) -> None:
        """Keep an event."""

    def close(self, error: BaseException | None) -> None:
        """Keep how the run ended: the error that ended it, or None."""


@contextmanager
def guarded(recorder: Recorder[E], name: str, notice: Callable[[str], None]) -> Iterator[Callable[[E], None]]:
    """Hand events to a recorder that may fail: its first error is reported once, and it gets no more events.

    At the end the recorder is closed. `name` is its name in the report, `notice` shows a line to the user.

    Yields:
        A listener to events.
    """
    failed = False

    def attempt(act: Callable[[], None]) -> None:
        nonlocal failed
        if failed:
            return
        try:
            act()
        except Exception as error:
            failed = True
            notice(f"{name} records no more of this ({one_line(error)})")

    try:
        yield lambda event: attempt(lambda: recorder(event))
    except BaseException as error:
        ended = error  # Python deletes `error` at the end of the block
        attempt(lambda: recorder.close(ended))
        raise
    attempt(lambda: recorder.close(None))


class BackgroundRecorder(Generic[E_contra]):
    """Hands events to a slow recorder in a thread of its own, in order. Listens to the same events.

    Only that thread calls the recorder, and its error is raised at the next event. A recorder that failed gets no more
    events, not even those that wait for it: each would wait for the lost server again, long after the run is over.
    """

    def __init__(self, recorder: Recorder[E_contra], name: str) -> None:
        self._recorder = recorder
        self._thread = ThreadPoolExecutor(1, name)
        self._error: Exception | None = None

    def __call__(self, event: E_contra) -> None:
        """Hand an event on."""
        self._raise()
        self._thread.submit(self._unless_failed, lambda: self._recorder(event))

    def close(self, error: BaseException | None) -> None:
        """Close the recorder, and wait until it has kept everything."""
        self._thread.submit(self._unless_failed, lambda: self._recorder.close(error))
        self._thread.shutdown()
        self._raise()

    def _unless_failed(self, act: Callable[[], None]) -> None:
        if self._error is None:
            try:
                act()
            except Exception as error:
                self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
