"""Writing a folder so that it is complete or absent."""

import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class OccupiedError(Exception):
    """The path for a new folder is taken."""


@contextmanager
def complete_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill: it is moved to `path` when the block ends, and removed when the block fails.

    Until then it lies beside `path` under a hidden name. Linux can exchange two folders in one step, so `path` is
    complete at every instant of an overwrite; on other systems it is absent between two renames. Missing parents of
    `path` are made.

    Raises:
        OccupiedError: `path` holds more than an empty folder, at the start or at the end, and `overwrite` is false.
    """
    path = path.resolve()  # a symbolic link stays; its target is replaced
    if not overwrite:
        _check_free(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    with needed_folder(path.parent):
        try:
            partial.mkdir()
            yield partial
            if overwrite and path.exists():
                _exchange(partial, path)
            else:
                _check_free(path)
                partial.rename(path)
        finally:  # the hidden name now holds a failed attempt, the replaced folder, or nothing
            if partial.exists():
                shutil.rmtree(partial)


@contextmanager
def needed_folder(path: Path) -> Iterator[None]:
    """Make a folder and its parents; when the block fails, remove those of the new ones that are empty."""
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty
            for folder in absent:
                folder.rmdir()
        raise


def _check_free(path: Path) -> None:
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise OccupiedError(path)


def _exchange(new: Path, old: Path) -> None:
    """Exchange two folders, in one step where the system can."""
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
        if renameat2 and not renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE):
            return
    replaced = new.with_name(new.name + ".replaced")
    old.rename(replaced)
    try:
        new.rename(old)
    except OSError:
        replaced.rename(old)
        raise
    replaced.rename(new)
