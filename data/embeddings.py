"""A store's pictures as embeddings of a frozen network: computed once, kept in a Zarr group beside the store.

=========== ======= ================= ==========================================
array       type    shape             content
=========== ======= ================= ==========================================
`embedding` float32 ``[pictures, d]`` in the order of the store's pictures
`checksum`  uint32  ``[chunks]``      CRC-32 (zlib's) of a chunk's embeddings
=========== ======= ================= ==========================================

Its attributes are `schema`, `key` (SHA-256 of the store's digest and of all that decides an embedding), what these are,
and `seal` (SHA-256 of all attributes and of the checksums). The group is complete or absent, and verified when it is
opened: a damaged one counts as absent, and is written anew.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from fanfold.data.atomic import complete_folder
from fanfold.data.errors import FanfoldError
from fanfold.data.images import SMALL, Pictures
from fanfold.data.mapped import cache_folder, mapped
from fanfold.data.plain import JSON
from fanfold.data.schema import checksums, layout
from fanfold.data.store import Store
from fanfold.data.writing import CODECS

SCHEMA = 1

Embedded = NDArray[np.float32]
Fill = Callable[["EmbeddedImages"], None]
"""Writes the embeddings of a store, where they are absent."""


class EmbeddedImages(Pictures):
    """The embeddings of a store's pictures, in the place of these: see `fanfold.data.images.Images`.

    Args:
        store: The store.
        facts: All that decides an embedding, besides the picture.
        width: The length d of an embedding.
        fill: What computes them where they are absent when they are asked for.
    """

    def __init__(self, store: Store, facts: Mapping[str, JSON], width: int, fill: Fill) -> None:
        super().__init__(store)
        self.store, self.width = store, width
        self._fill, self._facts = fill, {"schema": SCHEMA, "store": store.digest, **facts}
        self.key = hashlib.sha256(_canonical(self._facts)).hexdigest()

    def rows(self, classes: ArrayLike, pictures: ArrayLike) -> tuple[Embedded, NDArray[np.int64]]:
        """All embeddings `[pictures, d]`, and the numbers `[…]` of those that are asked for."""
        return self.values, self.numbers(classes, pictures)

    def gather(self, classes: ArrayLike, pictures: ArrayLike) -> Embedded:
        """Pick embeddings by class, and place in it: `[…, d]`, new."""
        values, numbers = self.rows(classes, pictures)
        return np.asarray(values[numbers])

    @cached_property
    def values(self) -> Embedded:
        """All embeddings, `[pictures, d]`; computed in this process where nobody did so before.

        Raises:
            FanfoldError: They can't be computed or written.
        """
        if self.path is None:
            self._fill(self)
        if self.path is None:
            raise FanfoldError(f"The embeddings of {self.store.path} can't be read back: look at the disk.")
        return self._opened[1]

    @property
    def path(self) -> Path | None:
        """Where the embeddings are; None where they are absent."""
        try:
            return self._opened[0]
        except FileNotFoundError:
            return None

    @cached_property
    def _opened(self) -> tuple[Path, Embedded]:
        for path in self._places:
            if (values := self._read(path)) is not None:
                return path, values
        raise FileNotFoundError

    @property
    def _places(self) -> list[Path]:
        """Beside the store; where that can't be written, or is at an address, in the user's folder of caches."""
        name, store = f"{self.key[:32]}.zarr", self.store.path
        cached = cache_folder() / "embeddings" / name
        if not isinstance(store, Path):
            return [cached]
        return [store.with_name(f"{store.name.removesuffix('.zarr')}.embeddings") / name, cached]

    def _read(self, path: Path) -> Embedded | None:
        """The embeddings of a group, if it is there and undamaged."""
        if not path.exists():
            return None
        try:
            group = zarr.open_group(path, mode="r", zarr_format=3)
            array, sums = cast(Any, group["embedding"]), np.asarray(cast(Any, group["checksum"])[:])
            attributes, shape, chunk = group.attrs.asdict(), (self.store.pictures, self.width), array.chunks[0]
            if attributes.get("key") != self.key or attributes.get("seal") != _seal(attributes, sums):
                return None
            if array.shape != shape or array.dtype != np.float32:
                return None
            if array.nbytes > SMALL:
                reads = mapped(
                    f"{self.key}.embeddings", shape, np.dtype(np.float32), chunk, sums, lambda a, b: array[a:b]
                )
                if reads is not None:
                    return cast(Embedded, reads)
            values = np.asarray(array[:])
        except MemoryError:
            raise
        except Exception:  # decoders raise many kinds of errors on damaged bytes
            return None
        values.setflags(write=False)
        return values if checksums(values, chunk) == sums.tolist() else None

    def write(self, parts: Callable[[], Iterable[Embedded]]) -> Path:
        """Write the embeddings, if nobody does so first; one process at a time, the others wait.

        Args:
            parts: Gives all embeddings, in order, some rows at a time.

        Returns:
            Where they are.

        Raises:
            FanfoldError: They can't be written.
            Exception: Whatever `parts` raises, an OSError too: a picture that can't be read is no disk that is full.
        """
        problem: OSError | None = None
        for path in self._places:
            try:
                with _locked(path):
                    if (found := self.path) is None:
                        shutil.rmtree(path, ignore_errors=True)  # a damaged one
                        with complete_folder(path) as partial:
                            self._fill_group(partial, _computed(parts()))
                            if self._read(partial) is None:
                                raise FanfoldError(f"{path}: what was written can't be read back: look at the disk.")
                        found = self.path
                    assert found is not None
                    return found
            except _ComputingError as error:
                raise error.cause from None
            except OSError as error:
                problem = problem or error
        raise FanfoldError(f"{self._places[0]}: the embeddings can't be written ({problem}).") from problem

    def _fill_group(self, path: Path, parts: Iterable[Embedded]) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=3)
        rows = self.store.pictures
        chunk, shard = layout(rows, (self.width * 4,))
        array = group.create_array(
            "embedding",
            shape=(rows, self.width),
            dtype="float32",
            chunks=(chunk, self.width),
            shards=(shard, self.width),
            compressors=CODECS,
            config={"write_empty_chunks": True},  # otherwise a chunk of zeros would look like a missing one
            dimension_names=("picture", "dimension"),
        )
        sums, done = list[int](), 0
        for values in _regrouped(parts, shard):
            array[done : done + len(values)] = values
            sums += checksums(values, chunk)
            done += len(values)
        found = np.array(sums, np.uint32)
        group.create_array("checksum", data=found, chunks=(len(found),), config={"write_empty_chunks": True})
        attributes = {**self._facts, "key": self.key}
        group.attrs.update({**attributes, "seal": _seal(attributes, found)})


class _ComputingError(Exception):
    """An OSError of what computes embeddings, on the way through what writes them."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _computed(parts: Iterable[Embedded]) -> Iterator[Embedded]:
    """The parts; an OSError as they are computed is told apart from those of writing."""
    try:
        yield from parts
    except OSError as error:
        raise _ComputingError(error) from error


def _regrouped(parts: Iterable[Embedded], size: int) -> Iterator[Embedded]:
    """The rows of some parts, so many at a time."""
    waiting = list[Embedded]()
    for part in parts:
        waiting.append(part)
        while sum(map(len, waiting)) >= size:
            rows = np.concatenate(waiting)
            yield rows[:size]
            waiting = [rows[size:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _seal(attributes: Mapping[str, JSON], sums: NDArray[np.uint32]) -> str:
    found = hashlib.sha256(_canonical({key: value for key, value in attributes.items() if key != "seal"}))
    found.update(np.ascontiguousarray(sums, "<u4").tobytes())
    return found.hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
