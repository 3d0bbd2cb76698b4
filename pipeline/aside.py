"""A slow recorder keeps nobody waiting: it is handed what happens in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic

from pipeline.sparing import E_contra, Recorder


class Aside(Generic[E_contra]):
    """Hands events on in another thread, one after the other. Listens to what its recorder listens to.

    Args:
        recorder: The recorder, which that thread alone calls; what it raises is raised at the next event.
        name: The thread's name.
    """

    def __init__(self, recorder: Recorder[E_contra], name: str) -> None:
        self._recorder = recorder
        self._thread = ThreadPoolExecutor(1, name)
        self._handed: list[Future[None]] = []

    def __call__(self, event: E_contra) -> None:
        """Hand an event on."""
        self._raise_trouble()
        self._hand(lambda: self._recorder(event))

    def close(self, error: BaseException | None) -> None:
        """Let it keep how it ended, and wait until all is kept."""
        self._hand(lambda: self._recorder.close(error))
        self._thread.shutdown()
        self._raise_trouble()

    def _hand(self, act: Callable[[], None]) -> None:
        self._handed.append(self._thread.submit(act))

    def _raise_trouble(self) -> None:
        for future in [future for future in self._handed if future.done()]:
            self._handed.remove(future)
            future.result()
