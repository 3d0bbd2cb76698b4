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
    """Something lies already where a folder was to appear."""


@contextmanager
def complete_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes its place at `path` when the block ends, and vanishes when the block fails.

    It lies beside `path` under a hidden name of its own until then. Where the operating system can exchange two
    folders in one step (Linux), `path` is complete at every instant of an overwriting; elsewhere there is an
    instant between two renames.

    Args:
        path: the final place; its parents are made.
        overwrite: replace what lies at `path`. Otherwise nothing but an empty folder may lie there.

    Raises:
        OccupiedError: something lies at `path`, at the start or by the end, and `overwrite` is false.
    """
    path = path.resolve()  # what a symbolic link points to is replaced, not the link
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
        finally:  # whatever lies at the hidden name now, a failed attempt or the folder replaced, is of no more use
            if partial.exists():
                shutil.rmtree(partial)


@contextmanager
def needed_folder(path: Path) -> Iterator[None]:
    """Make a folder and those above it; when the block fails, those that were made and are empty vanish again."""
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
    """Let two folders change places, in one step where that can be had."""
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
        if renameat2 and not renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE):
            return
    aside = new.with_name(new.name + ".replaced")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)
