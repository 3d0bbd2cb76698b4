"""Functions compiled by Numba, kept on disk where that can be had.

The cache on disk is optional. Where it can't be written, as with a read-only package folder and home or on a full disk,
or is damaged, a process compiles its kernels in memory, and says so in one line.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from filelock import FileLock, Timeout
from numba.core.caching import FunctionCache

from fanfold.data.advice import one_line

Function = TypeVar("Function", bound=Callable[..., Any])

PATIENCE = 120.0  # seconds to wait for another process's kernels, then compiled here

_LOG = logging.getLogger(__name__)
_problems: list[str] = []


def compiled(function: Function) -> Function:
    """Compile a function where it is first called, without the interpreter's lock."""
    # Contraction fuses a product with a sum. Sums are not reordered: their order is as written, on every call.
    compile_it: Any = numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
    dispatcher, cache = compile_it(function), cast(Any, OptionalCache)
    try:
        dispatcher._cache = cache(function)  # as `njit(cache=True)` does
    except RuntimeError as error:  # no folder can be written to
        _note(error)
    found: Function = dispatcher
    return found


class OptionalCache(FunctionCache):
    """A function's cache on disk, whose errors end nothing."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature; None where there is none, or none that can be read."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # a damaged file may raise any
            _note(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, if that is possible."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _note(error)


def problem() -> str | None:
    """Why this process's kernels can't be kept, in one line; None if they can."""
    return _problems[0] if _problems else None


def _note(error: Exception) -> None:
    if not _problems:
        _problems.append(
            f"Compiled kernels can't be kept on disk ({one_line(error)}): every process compiles its own, which takes "
            "some 15 s; let NUMBA_CACHE_DIR name a folder that can be written to."
        )
        _LOG.warning("%s", _problems[0])


@contextmanager
def compiling_alone(kernel: Any) -> Iterator[None]:
    """Let one process at a time compile; the next finds its kernels on disk, beside those of `kernel`."""
    folder = kernel.stats.cache_path
    if folder is None:  # nothing is kept, so nobody need wait
        yield
        return
    lock = FileLock(Path(folder) / "fanfold-kernels.lock")
    with suppress(OSError, NotImplementedError, Timeout):  # a disk without room or locks, or a process that hangs
        lock.acquire(timeout=PATIENCE)
    try:
        yield
    finally:
        lock.release()
