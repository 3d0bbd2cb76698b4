"""Stores with a damaged, missing or exchanged file."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz.judging import Read, kept, right
from benchmarks.fuzz.mutation import Random, choice, damaged, odd
from fanfold.data.pictures import Preprocessing
from fanfold.data.sources.arrays import classes_of_arrays
from fanfold.data.sources.picture_source import PictureSource
from fanfold.data.store import Store, open_store, verify_store, write_store


@cache
def _written(path: Path) -> tuple[dict[Path, bytes], Store, NDArray[np.uint8]]:
    """A store that is written once: its files, itself and its pixels."""
    pixels = np.arange(8 * 6 * 6, dtype=np.uint32).reshape(8, 6, 6) ** 2 % 251
    classes = classes_of_arrays(list(pixels.astype(np.uint8)), [f"class {number // 2}" for number in range(8)])
    write_store(path, PictureSource(classes, Preprocessing(size=6, channels=1), {"source": "made"}), progress=False)
    store = open_store(path)
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}, store, store.read(0, 8)


def store(folder: Path, random: Random) -> Read:
    """A store of which one file is spoiled, which is mended afterwards: it is refused, or all is as it was."""
    path = kept(folder, "some.zarr")
    files, true, pixels = _written(path)
    file = choice(random, list(files))
    content = files[file]
    match int(random.integers(10)):
        case 0:
            spoiled = None
        case 1:
            spoiled = files[choice(random, list(files))]
        case number if number < 7 and file.suffix == ".json":
            spoiled = json.dumps(odd(json.loads(content), random)).encode()
        case _:
            spoiled = damaged(content, random)

    def read() -> None:
        try:
            if spoiled is None:
                file.unlink()
            else:
                file.write_bytes(spoiled)
            verify_store(path)
            found = open_store(path)
            right("the pictures differ", np.array_equal(found.read(0, 8), pixels))
            for what in ("names", "splits", "preprocessing", "digest", "dataset", "counts"):
                right(f"{what} differ", _same(getattr(found, what), getattr(true, what)))
        finally:
            file.write_bytes(content)

    return read


def _same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else bool(one == other)
