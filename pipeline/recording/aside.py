"""A slow recorder keeps nobody waiting: it is handed what happens in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic

from fanfold.pipeline.recording.recorder import E_contra, Recorder


class Aside(Generic[E_contra]):
    """Hands events on in another thread, one after the other. Listens to what its recorder listens to.

    Where the recorder fails, it is handed nothing more, what already waits for it included: a server that is gone
    would else be waited for with each of these, long after the run is over.

    Args:
        recorder: The recorder, which that thread alone calls; what it raises is raised at the next event.
        name: The thread's name.
    """

    def __init__(self, recorder: Recorder[E_contra], name: str) -> None:
        self._recorder = recorder
        self._thread = ThreadPoolExecutor(1, name)
        self._trouble: Exception | None = None

    def __call__(self, event: E_contra) -> None:
        """Hand an event on."""
        self._raise_trouble()
        self._thread.submit(self._unless_failed, lambda: self._recorder(event))

    def close(self, error: BaseException | None) -> None:
        """Let it keep how it ended, and wait until all is kept."""
        self._thread.submit(self._unless_failed, lambda: self._recorder.close(error))
        self._thread.shutdown()
        self._raise_trouble()

    def _unless_failed(self, act: Callable[[], None]) -> None:
        if self._trouble is None:
            try:
                act()
            except Exception as error:
                self._trouble = error

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble
