"""Writing a store: its pictures are read in parallel, and written in order, a shard at a time.

Who reads is a `Reading`: threads of this process, or others that are handed over, such as a cluster's workers.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import tee
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from dask.system import CPU_COUNT
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from fanfold.data.errors import FanfoldError
from fanfold.data.plain import JSON
from fanfold.data.schema import SCHEMA, checksums, digest, layout, paths_checksum, seal
from fanfold.data.source import Found, Part, Source

CODECS = (ZstdCodec(level=3), Crc32cCodec())
BATCH = 32  # pictures that a thread reads at a time
AHEAD = 4  # batches a thread that are read, or wait to be written

Reading: TypeAlias = Callable[[Source, Iterable[Sequence[Part]]], Generator[list[Found]]]
"""Reads batches of a source's parts, and gives them in order, few batches ahead of what is taken."""


@dataclass
class Summary:
    """What was written, and what was not."""

    pictures: int = 0
    unreadable: list[str] = field(default_factory=list)  # why each skipped picture can't be read
    empty: list[str] = field(default_factory=list)  # classes without a readable picture
    constant: list[str] = field(default_factory=list)  # pictures of one colour all over, which are stored


def in_threads(source: Source, batches: Iterable[Sequence[Part]]) -> Generator[list[Found]]:
    """Read in threads of this process, one a core: decoders release the interpreter's lock."""

    def read(parts: Sequence[Part]) -> list[Found]:
        return [source.read(*part) for part in parts]

    waiting: deque[Future[list[Found]]] = deque()
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(read, batch))
                if len(waiting) > AHEAD * CPU_COUNT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def fill_store(path: Path, source: Source, done: Callable[[int], None], reading: Reading = in_threads) -> Summary:
    """Write a data set into an empty folder. The caller hides the folder until it is complete.

    Args:
        path: The folder.
        source: The data set.
        done: Is told how many pictures have been read since it was told last.
        reading: Who reads the pictures.

    Raises:
        FanfoldError: The source can't be read, or holds nothing readable.
        OSError: The store can't be written.
    """
    writer = _Writer(path, sum(source.counts))
    summary = Summary()
    sizes = np.zeros(len(source.names), np.int64)
    paths: list[str] = []
    with closing(_in_order(source, reading)) as parts:
        for part, found in parts:
            names = source.paths(part.of_class)[part.first : part.last]
            for name, picture in zip(names, found, strict=True):
                if isinstance(picture, FanfoldError):
                    summary.unreadable.append(str(picture))
                else:
                    writer.add(picture)
                    if (picture == picture[:, :1, :1]).all():
                        summary.constant.append(name)
                    paths.append(name)
                    sizes[part.of_class] += 1
            done(part.last - part.first)
    kept = np.flatnonzero(sizes).tolist()
    summary.pictures = len(paths)
    summary.empty = ["/".join(filter(None, source.names[index])) for index in np.flatnonzero(sizes == 0).tolist()]
    if not kept:
        why = f": {summary.unreadable[0]}" if summary.unreadable else ""
        raise FanfoldError(f"No picture of {source.origin.get('source')} can be read{why}")
    found_checksums = writer.close()
    first = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
    names_kept, splits = [source.names[index] for index in kept], [source.splits[index] for index in kept]
    attributes: dict[str, JSON] = {
        **source.attributes,
        "dataset": source.dataset,
        "schema": SCHEMA,
        "preprocessing": source.preprocessing.to_dict(),
        "paths": paths_checksum(paths),
        "origin": {**source.origin, "fanfold": _fanfold()},
    }
    attributes["digest"] = digest(attributes, writer.images.shape, first, names_kept, splits, found_checksums)
    attributes["seal"] = seal(attributes)
    text = np.dtypes.StringDType()
    _write_small(writer.group, "first", first)
    _write_small(writer.group, "name", np.array([name.name for name in names_kept], text))
    _write_small(writer.group, "group", np.array([name.group for name in names_kept], text))
    _write_small(writer.group, "split", np.array(splits, text))
    _write_small(writer.group, "path", np.array(paths, text))
    _write_small(writer.group, "checksum", found_checksums)
    writer.group.attrs.update(attributes)
    return summary


class _Writer:
    """Appends pictures to the array `images`, whose length is known at the end."""

    def __init__(self, path: Path, most: int) -> None:
        self.group = zarr.open_group(path, mode="w", zarr_format=3)
        self._most = most
        self._waiting: list[NDArray[np.uint8]] = []
        self._written = 0
        self._checksums: list[int] = []
        self._images: zarr.Array[Any] | None = None

    @property
    def images(self) -> zarr.Array[Any]:
        assert self._images is not None
        return self._images

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture `[channels, height, width]`."""
        if self._images is None:
            self._chunk, self._shard = layout(self._most, picture.shape)
            self._images = self.group.create_array(
                "images",
                shape=(self._most, *picture.shape),
                dtype="uint8",
                chunks=(self._chunk, *picture.shape),
                shards=(self._shard, *picture.shape),
                compressors=CODECS,
                fill_value=0,
                config={"write_empty_chunks": True},  # otherwise a blank chunk would look like a missing one
                dimension_names=("picture", "channel", "row", "column"),
            )
        self._waiting.append(picture)
        if len(self._waiting) == self._shard:
            self._flush()

    def close(self) -> NDArray[np.uint32]:
        """Write what waits, and return the checksums of all chunks."""
        self._flush()
        self.images.resize((self._written, *self.images.shape[1:]))
        return np.array(self._checksums, np.uint32)

    def _flush(self) -> None:
        if self._waiting:
            pixels = np.stack(self._waiting)
            self.images[self._written : self._written + len(pixels)] = pixels
            self._checksums += checksums(pixels, self._chunk)
            self._written += len(pixels)
            self._waiting = []


def _in_order(source: Source, reading: Reading) -> Generator[tuple[Part, Found]]:
    """All pictures of a source, in order; few are read ahead of what is taken, whatever the size of the data set."""
    ours, theirs = tee(_batches(source.counts))
    with closing(reading(source, theirs)) as read:  # closed in time: nothing is read when the folder is removed
        for batch, found in zip(ours, read, strict=True):
            yield from zip(batch, found, strict=True)


def _batches(counts: Sequence[int]) -> Generator[list[Part]]:
    """The pictures of all classes, in order, about `BATCH` at a time."""
    batch: list[Part] = []
    size = 0
    for index, count in enumerate(counts):
        for first in range(0, count, BATCH):
            batch.append(Part(index, first, min(first + BATCH, count)))
            size += batch[-1].last - first
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _write_small(group: zarr.Group, name: str, values: NDArray[Any]) -> None:
    group.create_array(
        name, data=values, chunks=(len(values),), compressors=CODECS, config={"write_empty_chunks": True}
    )


def _fanfold() -> str:
    try:
        return version("fanfold")
    except PackageNotFoundError:  # run from a clone that isn't installed
        return "unknown"


def told(summary: Summary, origin: Mapping[str, JSON], most: int = 5) -> list[str]:
    """A summary in lines for the user: what was skipped, and why."""
    notes = [str(note) for note in origin.get("notes", ()) or ()]  # type: ignore[union-attr]
    for problems, one, many in (
        (summary.unreadable, "1 picture was skipped", "{} pictures were skipped"),
        (summary.constant, "1 picture has one colour all over", "{} pictures have one colour all over"),
        (summary.empty, "1 class has no readable picture", "{} classes have no readable picture"),
    ):
        if problems:
            shown = "; ".join(problems[:most]) + ("; …" if len(problems) > most else "")
            notes.append(f"{one if len(problems) == 1 else many.format(f'{len(problems):,}')}: {shown}")
    return notes
