"""The Zarr store: written, opened, read and verified.

A Zarr v3 group of

======================= ======= ===================================== =========================================
array                   type    shape                                 content
======================= ======= ===================================== =========================================
`images`                uint8   ``[classes, drawings, height, width]`` ink 255 on 0; a class one chunk, 64 a shard
`alphabet`, `character` string  ``[classes]``                         the classes' names
`checksum`              uint32  ``[classes]``                         CRC-32 (zlib's) of a class's raw pixels
======================= ======= ===================================== =========================================

whose attributes are `dataset`, `schema`, `height`, `width`, `fanfold` (the version that wrote it), the
attributes of the source (`source`, `resize`, …), and, where it varies, `drawings`: the number of drawings of each
class. Classes with fewer drawings are padded with blank ones.

Each chunk is compressed by Zstandard and carries a CRC-32C. That is not enough: Zarr reads a deleted shard, or a chunk
that is absent from its shard, as zeros without an error. Hence the checksums, and the check of the files when a store
is opened.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from dask.diagnostics.progress import ProgressBar
from numpy.typing import NDArray

from fanfold.data.advice import one_line, preparation, ranges
from fanfold.data.atomic import OccupiedError, complete_folder
from fanfold.data.errors import FanfoldError
from fanfold.data.source import JSON, ClassName, Source
from fanfold.data.writing import CLASSES_PER_SHARD, SCHEMA, checksum, fill_store

__all__ = ["SCHEMA", "Store", "open_store", "verify_store", "write_store"]

_ARRAYS = ("images", "alphabet", "character", "checksum")


@dataclass(frozen=True, eq=False)
class Store:
    """An open store; read-only, and cheap enough for every worker to open it."""

    path: Path
    dataset: str  # "omniglot", "glyphs" or "folder"
    images: zarr.Array[Any]  # uint8 `[classes, drawings, height, width]`; `read` compares it with the checksums
    names: tuple[ClassName, ...]
    drawings: NDArray[np.int64]  # how many each class has, `[classes]`
    checksums: NDArray[np.uint32]  # CRC-32 of each class's raw pixels, `[classes]`
    attributes: Mapping[str, JSON]  # of the Zarr group

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return self.images.shape[2], self.images.shape[3]

    @cached_property
    def alphabets(self) -> tuple[str, ...]:
        """The alphabets, each once, in the order of the classes."""
        return tuple(dict.fromkeys(name.alphabet for name in self.names))

    def read(self, classes: slice | Sequence[int] | NDArray[np.integer] = slice(None)) -> NDArray[np.uint8]:
        """Read classes, and compare them with their checksums: the pixels, `[classes, drawings, height, width]`.

        Raises:
            FanfoldError: A class is damaged or missing; array, classes, chunks and store are named.
        """
        numbers = np.arange(len(self.names))[np.asarray(classes) if not isinstance(classes, slice) else classes]
        selection = classes if isinstance(classes, slice) else numbers
        try:
            with zarr.config.set({"codec_pipeline.batch_size": CLASSES_PER_SHARD}):  # a third faster than one by one
                pixels = cast(NDArray[np.uint8], self.images.oindex[selection])
            if all(self._intact(image, number) for image, number in zip(pixels, numbers, strict=True)):
                return pixels
        except MemoryError:
            raise
        except Exception:  # decoders raise many kinds of errors on damaged bytes; the damaged classes are found below
            pass
        return self._read_one_by_one(numbers)

    def _intact(self, pixels: NDArray[np.uint8], number: int) -> bool:
        return checksum(pixels) == int(self.checksums[number])

    def _read_one_by_one(self, numbers: NDArray[np.integer]) -> NDArray[np.uint8]:
        pixels = np.empty((len(numbers), *self.images.shape[1:]), np.uint8)
        damaged: dict[int, str] = {}
        for place, number in enumerate(numbers.tolist()):
            try:
                pixels[place] = self.images[number]
                if not self._intact(pixels[place], number):
                    damaged[number] = "not what its checksum says; absent from its shard, or changed"
            except MemoryError:
                raise
            except Exception as error:
                damaged[number] = one_line(error)
        if damaged:
            raise _damage(self, damaged)
        return pixels


def write_store(path: Path | str, source: Source, *, overwrite: bool = False, progress: bool = True) -> None:
    """Write a data set to a store. The store is complete and verified when it appears at `path`.

    Missing parents are made. A store to overwrite stays there until the new one is complete. On standard error,
    progress is a bar on a terminal, otherwise one line.

    Raises:
        FanfoldError: `path` is taken; or the source can't be read; or the store can't be written (a full disk, no
            permission). Nothing new is left then, and an earlier store is unchanged.
    """
    path = Path(path)
    if overwrite:
        _check_replaceable(path)
    try:
        with complete_folder(path, overwrite=overwrite) as partial:
            with _progress(f"Writing {path}: {len(source.names)} classes of {source.dataset}", progress):
                fill_store(partial, source)
            verify_store(partial)
    except OccupiedError as error:
        raise FanfoldError(f"{path}: exists already; name another place, or add `overwrite=true`") from error
    except OSError as error:
        raise FanfoldError(
            f"{path}: the store can't be written: {error.strerror or error}; free some space, or name another place "
            "with `dataset.store`"
        ) from error


def open_store(path: Path | str, *, dataset: str = "auto") -> Store:
    """Open a store, and check all but the images.

    Raises:
        FanfoldError: There is no store, or one of another schema, or an incomplete one. It says how to prepare the
            store of `dataset`.
    """
    path = Path(path)
    if not path.exists():
        raise FanfoldError(f"{path}: there is no such store; make it with {preparation(path, dataset)}")
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
        attributes = group.attrs.asdict()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FanfoldError(
            f"{path}: not a store of Fanfold's, or damaged ({one_line(error)}); move it away, and make one with "
            f"{preparation(path, dataset)}"
        ) from error
    if "schema" not in attributes or "dataset" not in attributes:
        raise FanfoldError(
            f"{path}: a Zarr group, but not a store of Fanfold's; move it away, and make one with "
            f"{preparation(path, dataset)}"
        )
    dataset = str(attributes["dataset"])
    again = f"prepare it again with {preparation(path, dataset, attributes, overwrite=True)}"
    if attributes["schema"] != SCHEMA:
        raise FanfoldError(f"{path}: written in schema {attributes['schema']}, not {SCHEMA}; {again}")
    try:
        arrays = {name: _open_array(group, name) for name in _ARRAYS}
        classes = arrays["images"].shape[0]
        _check_files(path, arrays)
        alphabet, character, checksums = (_read_small(arrays[name], classes) for name in _ARRAYS[1:])
        most = arrays["images"].shape[1]
        drawings = np.array(attributes.get("drawings", [most] * classes), np.int64)
        if drawings.shape != (classes,) or drawings.min() < 1 or drawings.max() > most:
            raise _IncompleteError("attribute drawings does not fit array images")
    except _IncompleteError as error:
        raise FanfoldError(f"{path}: {error}; {again}") from error
    names = tuple(map(ClassName, map(str, alphabet), map(str, character)))
    return Store(path, dataset, arrays["images"], names, drawings, checksums, attributes)


def verify_store(path: Path | str) -> None:
    """Read a whole store, a shard at a time, and compare every class with its checksum.

    Raises:
        FanfoldError: See `open_store` and `Store.read`.
    """
    store = open_store(path)
    step = (store.images.shards or store.images.chunks)[0]
    for start in range(0, len(store.names), step):
        store.read(slice(start, start + step))


def _check_replaceable(path: Path) -> None:
    """Raise FanfoldError if `path` holds other files than a store: a wrong path must not cost someone their files."""
    if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
        try:
            ours = "schema" in zarr.open_group(path, mode="r", zarr_format=3).attrs
        except (OSError, ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise FanfoldError(f"{path}: not a store of Fanfold's, so not overwritten; move it away, or name another")


@contextmanager
def _progress(message: str, wanted: bool) -> Iterator[None]:
    if wanted:
        print(message, file=sys.stderr, flush=True)
    with ProgressBar(out=sys.stderr) if wanted and sys.stderr.isatty() else nullcontext():
        yield


class _IncompleteError(Exception):
    """A part of a store is missing or unreadable."""


def _open_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    try:
        array = group[name]
    except KeyError as error:
        raise _IncompleteError(f"incomplete: array {name} is missing") from error
    except (OSError, ValueError, TypeError) as error:
        raise _IncompleteError(f"the description of array {name} is damaged ({one_line(error)})") from error
    if not isinstance(array, zarr.Array) or array.ndim != (4 if name == "images" else 1) or array.size == 0:
        raise _IncompleteError(f"{name} is not an array of the shape it should have")
    return array


def _check_files(path: Path, arrays: Mapping[str, zarr.Array[Any]]) -> None:
    """Check that all files of the arrays exist: Zarr would read absent ones as zeros."""
    for name, array in arrays.items():
        files = array.shards or array.chunks
        for start in range(0, array.shape[0], files[0]):
            key = _chunk_key(array, start)
            if not (path / name / key).is_file():
                raise _IncompleteError(f"incomplete: chunk {key} of array {name} is missing")


def _chunk_key(array: zarr.Array[Any], index: int) -> str:
    """The file of entry `index` of the first axis, relative to the array's folder."""
    first = index // (array.shards or array.chunks)[0]
    return array.metadata.encode_chunk_key((first, *(0 for _ in array.shape[1:])))


def _read_small(array: zarr.Array[Any], classes: int) -> NDArray[Any]:
    try:
        values = np.asarray(array[:])
    except Exception as error:  # as in Store.read
        raise _IncompleteError(f"array {array.basename} is damaged ({one_line(error)})") from error
    if values.shape != (classes,):
        raise _IncompleteError(f"array {array.basename} does not fit array images")
    return values


def _damage(store: Store, damaged: Mapping[int, str]) -> FanfoldError:
    numbers = sorted(damaged)
    first = numbers[0]
    chunks = list(dict.fromkeys(_chunk_key(store.images, number) for number in numbers))
    if len(numbers) == 1:
        which = f"class {first} ({store.names[first].alphabet}, {store.names[first].character})"
    else:
        which = f"{len(numbers)} classes, {ranges(numbers)},"
    where = f"chunk {chunks[0]}" if len(chunks) == 1 else f"chunks {', '.join(chunks)}"
    again = preparation(store.path, store.dataset, store.attributes, overwrite=True)
    return FanfoldError(
        f"{store.path}: array images, {which} in {where}: damaged ({damaged[first]}); prepare it again with {again}"
    )
