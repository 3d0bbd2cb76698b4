"""The Zarr store: written, opened, read and verified.

A Zarr v3 group of

================= ======= ====================================== ==================================================
array             type    shape                                  content
================= ======= ====================================== ==================================================
`images`          uint8   ``[pictures, channels, height, width]`` class after class; some hundred KB a chunk
`first`           int64   ``[classes + 1]``                      class c has the pictures first[c] … first[c + 1]
`name`, `group`   string  ``[classes]``                          the classes' names, and their groups
`split`           string  ``[classes]``                          train, validation or test; empty where none is given
`path`            string  ``[pictures]``                         the pictures' names in their source
`checksum`        uint32  ``[chunks]``                           CRC-32 (zlib's) of a chunk's raw pixels
================= ======= ====================================== ==================================================

whose attributes are `schema`, `dataset`, `preprocessing` (see `data.pictures`), further ones of the source that decide
something, `origin` (where the pictures come from, and how the store is made anew), `paths` (CRC-32 of the array
`path`), `digest` (SHA-256 of all that decides what is learnt) and `seal` (SHA-256 of all attributes).

Each chunk is compressed by Zstandard and carries a CRC-32C. That is not enough: Zarr reads a deleted shard, or a chunk
that is absent from its shard, as zeros without an error. Hence the checksums.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from fanfold.data.advice import counted, one_line, preparation, ranges
from fanfold.data.atomic import OccupiedError, complete_folder
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.data.plain import JSON
from fanfold.data.remote import Place, Remote, place
from fanfold.data.schema import CHUNKS_PER_SHARD, PARTS, SCHEMA, checksum, checksums, digest, paths_checksum, seal
from fanfold.data.source import ClassName, Source, called
from fanfold.data.writing import Reading, Summary, fill_store, in_threads

__all__ = ["SCHEMA", "Store", "open_store", "verify_store", "write_store"]

PROGRESS_SECONDS = 10  # between lines of progress where there is no terminal
_SMALL = ("first", "name", "group", "split", "checksum")
_NAMED = 8  # damaged chunks named at most


@dataclass(frozen=True, eq=False, repr=False)
class Store:
    """An open store; read-only, and cheap enough for every worker to open it."""

    path: Place
    dataset: str  # "omniglot", "glyphs", "cifar-fs" or "folder"
    images: zarr.Array[Any]  # uint8 `[pictures, channels, height, width]`; `read` compares it with the checksums
    first: NDArray[np.int64]  # each class's first picture, and the number of pictures, `[classes + 1]`
    names: tuple[ClassName, ...]  # of the classes
    splits: tuple[str, ...]  # "train", "validation", "test" or "", for each class
    checksums: NDArray[np.uint32]  # CRC-32 of each chunk's raw pixels
    preprocessing: Preprocessing
    digest: str  # identifies the content
    attributes: Mapping[str, JSON]  # of the Zarr group

    def __str__(self) -> str:
        """The content in words: "grocery, 81 classes of 12 groups, 5,421 pictures (9 to 192 each) …"."""
        groups, picture = ("alphabets", "drawing") if self.preprocessing.handwriting else ("groups", "picture")
        of = f" of {len(self.groups):,} {groups}" if len(self.groups) > 1 else ""
        low, high = int(self.counts.min()), int(self.counts.max())
        each = f"{low:,} each" if low == high else f"{low:,} to {high:,} each"
        height, width = self.size
        return (
            f"{self.title}, {counted(len(self.names), 'class')}{of}, {counted(self.pictures, picture)} ({each}) of "
            f"{height} × {width} pixels, {'in colour' if self.channels == 3 else 'grey'}"
        )

    def __repr__(self) -> str:
        return f"<store {str(self.path)!r}: {self}>"

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def remote(self) -> bool:
        """Whether the store is at an address, not in a folder."""
        return isinstance(self.path, Remote)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for coloured ones."""
        return self.images.shape[1]

    @property
    def pictures(self) -> int:
        """The number of pictures."""
        return self.images.shape[0]

    @property
    def chunk(self) -> int:
        """Pictures of a chunk."""
        return self.images.chunks[0]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The number of pictures of each class, `[classes]`."""
        return np.diff(self.first)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The groups, each once, in the order of the classes."""
        return tuple(dict.fromkeys(name.group for name in self.names))

    @property
    def title(self) -> str:
        """What people call the data set: "omniglot", or the name of their own folder, or of the store."""
        source = self.origin.get("source")
        if self.dataset != "folder":
            return self.dataset
        return called(str(self.path if source in (None, "memory") else source))

    @property
    def origin(self) -> Mapping[str, JSON]:
        """Where the pictures come from, and how the store is made anew."""
        return cast(Mapping[str, JSON], self.attributes["origin"])

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The pictures' names in their source, `[pictures]`.

        Raises:
            FanfoldError: They are damaged or missing.
        """
        try:
            found = tuple(map(str, np.asarray(cast(Any, _group(self.path)["path"])[:])))
            if len(found) == self.pictures and paths_checksum(found) == self.attributes["paths"]:
                return found
            problem = "not what its checksum says"
        except Exception as error:  # decoders raise many kinds of errors on damaged bytes
            problem = one_line(error)
        raise FanfoldError(f"{self.path}: array path is damaged ({problem}); {self.again}")

    @property
    def again(self) -> str:
        """Advice to prepare the store again."""
        return f"prepare it again with {preparation(self.path, self.dataset, self.origin, overwrite=True)}"

    def read(self, first: int = 0, last: int | None = None) -> NDArray[np.uint8]:
        """Read pictures by their numbers, and compare their chunks with the checksums: `[n, channels, height, width]`.

        Raises:
            FanfoldError: A chunk is damaged or missing; array, chunk, classes and store are named.
        """
        last = self.pictures if last is None else last
        chunks = range(first // self.chunk, -(-last // self.chunk))
        start = chunks.start * self.chunk
        try:
            with zarr.config.set({"codec_pipeline.batch_size": CHUNKS_PER_SHARD}):  # a third faster than one by one
                pixels = cast(NDArray[np.uint8], self.images[start : chunks.stop * self.chunk])
            if checksums(pixels, self.chunk) == self.checksums[chunks.start : chunks.stop].tolist():
                return pixels[first - start : last - start]
        except MemoryError:
            raise
        except Exception:  # noqa: S110 (as above; the damaged chunks are found below)
            pass
        raise self._damage(chunks)

    def _intact(self, pixels: NDArray[np.uint8], chunk: int) -> bool:
        return checksum(pixels) == int(self.checksums[chunk])

    def _damage(self, chunks: range) -> FanfoldError:
        """The error that names the damaged ones of some chunks."""
        damaged: dict[int, str] = {}
        for chunk in chunks:
            try:
                if not self._intact(np.asarray(self.images[chunk * self.chunk : (chunk + 1) * self.chunk]), chunk):
                    damaged[chunk] = "not what its checksum says; absent from its shard, or changed"
            except MemoryError:
                raise
            except Exception as error:
                damaged[chunk] = one_line(error)
        if not damaged:  # read well the second time
            damaged = {chunks.start: "read otherwise than a moment ago"}
        per_shard = (self.images.shards or self.images.chunks)[0] // self.chunk
        shards = list(dict.fromkeys(f"c/{chunk // per_shard}/0/0/0" for chunk in damaged))[:_NAMED]
        places = np.searchsorted(self.first, [[c * self.chunk, (c + 1) * self.chunk - 1] for c in damaged], "right") - 1
        classes = sorted({n for a, b in places.tolist() for n in range(a, min(b, len(self.names) - 1) + 1)})
        return FanfoldError(
            f"{self.path}: array images, chunk {ranges(list(damaged))} in {', '.join(shards)}, of the classes "
            f"{ranges(classes)} (from {'/'.join(self.names[classes[0]])} on): damaged "
            f"({next(iter(damaged.values()))}); {self.again}"
        )


def write_store(
    path: Place | str,
    source: Source,
    *,
    overwrite: bool = False,
    progress: bool = True,
    reading: Reading = in_threads,
) -> Summary:
    """Write a data set to a store. The store is complete and verified when it appears at `path`.

    Missing parents are made. A store to overwrite stays there until the new one is complete. On standard error,
    progress is a bar on a terminal, otherwise a line now and then. The store has the same bits whoever reads.

    A store at an address is written and verified in a temporary folder, then uploaded; one to overwrite is absent
    meanwhile.

    Raises:
        FanfoldError: `path` is taken; or the source can't be read; or the store can't be written (a full disk, no
            permission). Nothing new is left then, and an earlier store is unchanged.
    """
    path = place(path)
    if overwrite:
        _check_replaceable(path)
    if isinstance(path, Remote):
        if not overwrite and path.exists():
            raise _taken(path)
        with TemporaryDirectory(prefix="fanfold-") as folder:
            written = Path(folder, "store.zarr")
            summary = _fill(written, path, source, progress, reading)
            path.upload(written)
        return summary
    try:
        with complete_folder(path, overwrite=overwrite) as partial:
            return _fill(partial, path, source, progress, reading)
    except OccupiedError as error:
        raise _taken(path) from error
    except OSError as error:
        raise FanfoldError(
            f"{path}: the store can't be written: {error.strerror or error}; free some space, or name another place "
            "with `dataset.store`"
        ) from error


def _fill(folder: Path, path: Place, source: Source, progress: bool, reading: Reading) -> Summary:
    """Write a data set into a folder, which becomes the store at `path`, and verify it."""
    of = "" if source.dataset == "folder" else f" of {source.dataset}"
    words = f"Writing {path}: {counted(len(source.names), 'class')}{of}"
    with _progress(words, sum(source.counts), progress) as done:
        summary = fill_store(folder, source, done, reading)
    verify_store(folder)
    return summary


def _taken(path: Place) -> FanfoldError:
    return FanfoldError(f"{path}: exists already; name another place, or add `overwrite=true`")


def open_store(path: Place | str, *, dataset: str = "auto") -> Store:
    """Open a store, and check all but the pictures.

    Raises:
        FanfoldError: There is no store, or one of another schema, or a damaged one. It says how to prepare the store of
            `dataset`.
    """
    path = place(path)
    if not path.exists():
        raise FanfoldError(f"{path}: there is no such store; make it with {preparation(path, dataset)}")
    try:
        group = _group(path)
        attributes = group.attrs.asdict()
    except Exception as error:  # Zarr raises many kinds of errors on damaged descriptions
        raise FanfoldError(
            f"{path}: not a store of Fanfold's, or damaged ({one_line(error)[:200]}); move it away, and make one with "
            f"{preparation(path, dataset)}"
        ) from error
    if "schema" not in attributes or not isinstance(attributes.get("dataset"), str):
        raise FanfoldError(
            f"{path}: a Zarr group, but not a store of Fanfold's; move it away, and make one with "
            f"{preparation(path, dataset)}"
        )
    dataset, origin = str(attributes["dataset"]), attributes.get("origin")
    if attributes["schema"] != SCHEMA:
        origin = {"source": attributes["source"]} if "source" in attributes else None  # as of schema 1
    again = preparation(path, dataset, origin if isinstance(origin, Mapping) else None, overwrite=True)
    try:
        if attributes["schema"] != SCHEMA:
            raise _DamageError(f"written in schema {str(attributes['schema'])[:20]}, not {SCHEMA}")
        return _checked(path, group, attributes)
    except _DamageError as error:
        raise FanfoldError(f"{path}: {error}; prepare it again with {again}") from error
    except Exception as error:  # as above
        raise FanfoldError(f"{path}: damaged ({one_line(error)[:200]}); prepare it again with {again}") from error


def verify_store(path: Place | str) -> None:
    """Read a whole store, a shard at a time, and compare every chunk with its checksum.

    Raises:
        FanfoldError: See `open_store` and `Store.read`.
    """
    store = open_store(path)
    step = (store.images.shards or store.images.chunks)[0]
    for start in range(0, store.pictures, step):
        store.read(start, min(start + step, store.pictures))
    len(store.paths)


def _checked(path: Place, group: zarr.Group, attributes: Mapping[str, JSON]) -> Store:
    """The store of a group, whose attributes and small arrays agree with each other, the seal and the digest."""
    if attributes.get("seal") != seal(attributes):
        raise _DamageError("the attributes are not what they were when it was written")
    images, path_array = _open_array(group, "images", 4), _open_array(group, "path", 1)
    first, names, groups, splits, sums = (_read_small(path, _open_array(group, name, 1)) for name in _SMALL)
    classes, chunk = len(first) - 1, images.chunks[0]
    fits = (
        images.dtype == np.uint8
        and first.dtype == np.int64
        and sums.dtype == np.uint32
        and images.shape[1] in (1, 3)
        and (first[0], first[-1]) == (0, images.shape[0])
        and bool((np.diff(first) > 0).all())
        and len(names) == len(groups) == len(splits) == classes
        and len(sums) == -(-images.shape[0] // chunk)
        and path_array.shape == images.shape[:1]
        and set(map(str, splits)) <= {"", *PARTS}
    )
    if not fits:
        raise _DamageError("its arrays don't fit each other")
    named = tuple(map(ClassName, map(str, groups), map(str, names)))
    parts = tuple(map(str, splits))
    if attributes.get("digest") != digest(attributes, images.shape, first, named, parts, sums):
        raise _DamageError("its classes or checksums are not what they were when it was written")
    try:
        preprocessing = Preprocessing.from_dict(cast(Mapping[str, JSON], attributes.get("preprocessing")))
    except FanfoldError as error:
        raise _DamageError(str(error)) from error
    if preprocessing.channels != images.shape[1] or preprocessing.size != max(images.shape[2:]):
        raise _DamageError("its preprocessing doesn't fit its pictures")
    _check_files(path, images)
    return Store(
        path=path,
        dataset=str(attributes["dataset"]),
        images=images,
        first=first,
        names=named,
        splits=parts,
        checksums=sums,
        preprocessing=preprocessing,
        digest=str(attributes["digest"]),
        attributes=attributes,
    )


def _group(path: Place) -> zarr.Group:
    return zarr.open_group(path if isinstance(path, Path) else path.address, mode="r", zarr_format=3)


def _check_replaceable(path: Place) -> None:
    """Raise FanfoldError if `path` holds other files than a store: a wrong path must not cost someone their files."""
    if path.exists() and (isinstance(path, Remote) or any(path.iterdir() if path.is_dir() else [path])):
        try:
            ours = "schema" in _group(path).attrs
        except Exception:  # as in `open_store`
            ours = False
        if not ours:
            raise FanfoldError(f"{path}: not a store of Fanfold's, so not overwritten; move it away, or name another")


@contextmanager
def _progress(words: str, pictures: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A function that is told how many more pictures are done."""
    if not wanted:
        yield lambda more: None
    elif sys.stderr.isatty():
        from rich.console import Console  # only here: it takes its time
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(words, total=pictures)
            yield lambda more: bar.advance(task, more)
    else:
        print(f"{words}, {pictures:,} pictures", file=sys.stderr, flush=True)
        done, told = 0, monotonic()

        def tell(more: int) -> None:
            nonlocal done, told
            done += more
            if monotonic() - told >= PROGRESS_SECONDS:
                told = monotonic()
                print(f"  {done:,} of {pictures:,} pictures", file=sys.stderr, flush=True)

        yield tell


class _DamageError(Exception):
    """A part of a store is missing, unreadable, or not what it was."""


def _open_array(group: zarr.Group, name: str, dimensions: int) -> zarr.Array[Any]:
    try:
        array = group[name]
    except KeyError as error:
        raise _DamageError(f"incomplete: array {name} is missing") from error
    except Exception as error:  # as in `open_store`
        raise _DamageError(f"the description of array {name} is damaged ({one_line(error)[:200]})") from error
    if not isinstance(array, zarr.Array) or array.ndim != dimensions or array.size == 0:
        raise _DamageError(f"{name} is not an array of the shape it should have")
    return array


def _check_files(path: Place, images: zarr.Array[Any]) -> None:
    """Check that all shards exist: Zarr would read absent ones as zeros."""
    shard = (images.shards or images.chunks)[0]
    listed = (path / "images").files() if isinstance(path, Remote) else None  # in one request
    for number in range(-(-images.shape[0] // shard)):
        key = images.metadata.encode_chunk_key((number, 0, 0, 0))
        if not (key in listed if listed is not None else (path / "images" / key).is_file()):
            raise _DamageError(f"incomplete: chunk {key} of array images is missing")


def _read_small(path: Place, array: zarr.Array[Any]) -> NDArray[Any]:
    try:
        key = array.metadata.encode_chunk_key((0,))
        if array.chunks != array.shape or not (path / array.path / key).is_file():
            raise _DamageError(f"incomplete: chunk {key} of array {array.basename} is missing")
        return np.asarray(array[:])
    except _DamageError:
        raise
    except Exception as error:  # as in `Store.paths`
        raise _DamageError(f"array {array.basename} is damaged ({one_line(error)[:200]})") from error
