"""A store's pictures or their embeddings in one file a machine, read-only, which its workers map into their memory."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanfold.data.schema import CHUNKS_PER_SHARD, checksum
from fanfold.data.store import Store

ROOM = 2**30
"""Bytes that stay free on the disk."""


def cache_folder() -> Path:
    """Where the files are: the folder that FANFOLD_CACHE names, or `fanfold` in the user's folder of caches."""
    if named := os.environ.get("FANFOLD_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fanfold"


def mapped_pixels(store: Store) -> NDArray[np.uint8] | None:
    """A store's pictures, mapped from the machine's file of that digest, uint8 `[pictures, channels, height, width]`.

    See `mapped`.
    """
    name, shape, kind = f"{store.digest}.pictures", store.images.shape, np.dtype(np.uint8)
    return mapped(name, shape, kind, store.chunk, store.checksums, store.read)


def mapped(
    name: str,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
    chunk: int,
    checksums: NDArray[np.uint32],
    read: Callable[[int, int], NDArray[Any]],
) -> NDArray[Any] | None:
    """An array, mapped from the machine's file of that name.

    One process writes the file, under a lock, from checked chunks; it is complete or absent, and checked when it is
    opened. None where the disk has no room for it, or the folder can't be written to.

    Args:
        name: The file's name, which stands for its content.
        shape: The array's shape.
        kind: The type of its numbers.
        chunk: Rows of a chunk.
        checksums: CRC-32 of each chunk.
        read: Gives rows from a first to a last, exclusive; they are checked.

    Raises:
        FanfoldError: A chunk is damaged or missing in what is read.
    """
    path = cache_folder() / name

    def opened() -> NDArray[Any] | None:
        if not path.is_file() or path.stat().st_size != prod(shape) * kind.itemsize:
            return None
        found = np.memmap(path, kind, "r", shape=shape)
        parts = (found[place * chunk : (place + 1) * chunk] for place in range(len(checksums)))
        return (
            found if all(checksum(part) == int(wanted) for part, wanted in zip(parts, checksums, strict=True)) else None
        )

    try:
        if (found := opened()) is not None:
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if (found := opened()) is not None:  # another process wrote it meanwhile
                return found
            if shutil.disk_usage(path.parent).free < prod(shape) * kind.itemsize + ROOM:
                return None
            step = chunk * CHUNKS_PER_SHARD
            _write(path, (read(first, min(first + step, shape[0])) for first in range(0, shape[0], step)))
            return opened()
    except OSError:
        return None


def _write(path: Path, parts: Iterable[NDArray[Any]]) -> None:
    """Write the file beside its name, then rename it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:8]}-", delete=False) as file:
        try:
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o444)
            Path(file.name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; it waits for others. Where the system has no such locks, several may write the same."""
    try:
        from fcntl import LOCK_EX, flock
    except ImportError:
        yield
        return
    with path.open("w") as file:
        flock(file, LOCK_EX)  # released when the file is closed, or the process ends
        yield
