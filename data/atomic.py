"""Writing a folder so that it is complete or absent, and removing what killed writers leave."""

import ctypes
import glob
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":  # where nobody can remove what another process has open
    import fcntl

FRESH = 2.0  # seconds within which a writer has locked what it made
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
    remove_leftovers(path)
    partial = partial_of(path)
    with needed_folder(path.parent):
        try:
            partial.mkdir()
            with _locked_folder(partial):
                yield partial
                if overwrite and path.exists():
                    _exchange(partial, path)
                else:
                    _check_free(path)
                    partial.rename(path)
        finally:  # the hidden name now holds a failed attempt, the replaced folder, or nothing
            if partial.exists():
                shutil.rmtree(partial)


def partial_of(path: Path) -> Path:
    """A new hidden name beside a path, for what is written there until it is whole."""
    return path.with_name(f".{path.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of a path left beside it: their locks ended with them."""
    with suppress(OSError):  # no such folder, or one that can't be listed
        for left in path.parent.glob(f".{glob.escape(path.name)}.partial-*[0-9a-f]"):
            with suppress(OSError):
                _remove_unless_held(left)


def hold(file: int) -> None:
    """Lock an open file or folder that is being written until it is closed, or its process ends.

    Raises:
        OSError: Another process holds it; or the file system has no locks, so that nobody removes it either.
    """
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_unless_held(left: Path) -> None:
    if time.time() - left.stat().st_mtime < FRESH:
        return
    if sys.platform == "win32":
        left.unlink()
        return
    file = os.open(left, os.O_RDONLY)
    try:
        hold(file)
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
    finally:
        os.close(file)


@contextmanager
def _locked_folder(path: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    file = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            hold(file)
        yield
    finally:
        os.close(file)


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
