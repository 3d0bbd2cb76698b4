"""Whoever records a run or search may fail, as on a full disk or without a server; it goes on without them then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from fanfold.data.advice import one_line

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class Recorder(Protocol[E_contra]):
    """Keeps what happens in a run or search somewhere. Listens to its events."""

    def __call__(self, event: E_contra) -> None:
        """Keep an event."""

    def close(self, error: BaseException | None) -> None:
        """Keep how it ended: what it failed of, if it did."""


@contextmanager
def sparing(recorder: Recorder[E], name: str, notice: Callable[[str], None]) -> Iterator[Callable[[E], None]]:
    """A recorder that can't harm what it records: where it fails, that is said once, and it hears no more.

    Args:
        recorder: The recorder; it is closed in the end.
        name: What people call it.
        notice: Says a line.
    """
    failed = False

    def spare(act: Callable[[], None]) -> None:
        nonlocal failed
        if failed:
            return
        try:
            act()
        except Exception as error:
            failed = True
            notice(f"{name} records no more of this ({one_line(error)})")

    try:
        yield lambda event: spare(lambda: recorder(event))
    except BaseException as error:
        ended = error  # Python forgets the name of what is caught
        spare(lambda: recorder.close(ended))
        raise
    spare(lambda: recorder.close(None))
