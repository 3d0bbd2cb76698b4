"""A store's pictures in one file a machine, read-only, which all its workers map into their memory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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

    One process writes the file, under a lock, from checked chunks; it is complete or absent, and checked when it is
    opened. None where the disk has no room for it, or the folder can't be written to.

    Raises:
        FanfoldError: A chunk is damaged or missing in the store.
    """
    path = cache_folder() / f"{store.digest}.pictures"
    try:
        if (pixels := _open(path, store)) is not None:
            return pixels
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if (pixels := _open(path, store)) is not None:  # another process wrote it meanwhile
                return pixels
            if shutil.disk_usage(path.parent).free < store.images.nbytes + ROOM:
                return None
            _write(path, store)
            return _open(path, store)
    except OSError:
        return None


def _open(path: Path, store: Store) -> NDArray[np.uint8] | None:
    """The file's pictures if it is there and its chunks are those of the store."""
    if not path.is_file() or path.stat().st_size != store.images.nbytes:
        return None
    pixels = np.memmap(path, np.uint8, "r", shape=store.images.shape)
    size = store.chunk
    intact = all(
        checksum(pixels[place * size : (place + 1) * size]) == int(wanted)
        for place, wanted in enumerate(store.checksums)
    )
    return pixels if intact else None


def _write(path: Path, store: Store) -> None:
    """Write the file beside its name, then rename it."""
    step = store.chunk * CHUNKS_PER_SHARD
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:8]}-", delete=False) as file:
        try:
            for first in range(0, store.pictures, step):
                file.write(store.read(first, min(first + step, store.pictures)).data)
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
