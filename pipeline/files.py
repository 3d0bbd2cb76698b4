"""Writing a file whole or not at all."""

import contextlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fanfold.data.advice import why
from fanfold.data.atomic import hold, partial_of, remove_leftovers
from fanfold.data.errors import FanfoldError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file's content, see `writing`."""
    with writing(path) as file:
        file.write(content)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside the path, which takes its place when the block ends, and vanishes when the block fails.

    Raises:
        FanfoldError: The file can't be written, as on a full disk; the earlier file stays.
        Exception: Whatever the block raises, an OSError too: it has other reasons than this file.
    """
    remove_leftovers(path)
    partial = partial_of(path)
    try:
        with _told(path):
            raw = _Destination(partial, "wb")
        raw.told = path
        with io.BufferedWriter(raw) as file:
            with contextlib.suppress(OSError):
                hold(file.fileno())
            yield file
            file.flush()
            with _told(path):
                os.fsync(file.fileno())
        with _told(path):
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


class _Destination(io.FileIO):
    """A file that tells by the name of its path that it can't be written."""

    told: Path

    def write(self, content: "ReadableBuffer", /) -> int:
        with _told(self.told):
            return super().write(content) or 0


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raises an OSError as what it means for a path: that it can't be written."""
    try:
        yield
    except OSError as error:
        raise FanfoldError(f"{path} can't be written ({error.strerror}): the earlier file is unchanged.") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        FanfoldError: It can't be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # of a name that no file can have
        raise FanfoldError(f"{path} can't be read ({why(error)}).") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; bytes that are no text become signs that stand for such.

    Raises:
        FanfoldError: It can't be read, as a folder can't.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a device may have no end
            raise FanfoldError(f"{path} is no file: move it away.")
        return path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise FanfoldError(f"{path} can't be read ({error.strerror}): move it away.") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON, whole or not at all.

    Raises:
        FanfoldError: The file can't be written.
    """
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def make_folder(path: Path) -> None:
    """Make a folder and its parents, where they are missing.

    Raises:
        FanfoldError: It can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FanfoldError(f"The folder {path} can't be made ({error.strerror}).") from error


def replaced(paths: Iterable[Path | None]) -> str | None:
    """A line on those of some files to write that are there already; None where none is."""
    there = [str(path) for path in paths if path is not None and path.exists()]
    if not there:
        return None
    return f"there already, and replaced at the end: {', '.join(there)}"


def check_writable(what: str, path: Path) -> None:
    """Raise FanfoldError if a file could not be written at the end; the message says what kind of file it is."""
    folder = path.parent
    if path.is_dir():
        why = "it is a folder"
    elif not folder.is_dir():
        why = f"there is no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        why = "you may not write it"
    else:
        return
    raise FanfoldError(f"The {what} {path} can't be written ({why}): name another file.")
