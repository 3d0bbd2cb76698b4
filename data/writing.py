"""Writing a store: its schema, and one Dask task a shard."""

import zlib
from collections.abc import Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import zarr
from dask.base import compute
from dask.delayed import delayed
from dask.system import CPU_COUNT
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from fanfold.data.source import JSON, Source

SCHEMA = 1
"""The schema's version. Stores of other versions have to be prepared again."""

CLASSES_PER_SHARD = 64
_ZSTD_LEVEL = 9  # on Omniglot 5 % smaller than level 3 for 0.1 s; 19 saves another 4 % for 2.5 s
_CODECS = (ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec())


def fill_store(path: Path, source: Source) -> None:
    """Write a data set into an empty folder. The caller hides the folder until it is complete.

    Raises:
        FanfoldError: The source can't be read.
        OSError: The store can't be written.
    """
    classes = len(source.names)
    first = source.read(0)
    drawings = source.attributes.get("drawings", [first.shape[0]] * classes)
    shape = (classes, max(np.array(drawings, np.int64).tolist()), *first.shape[1:])

    group = zarr.open_group(path, mode="w", zarr_format=3, attributes=dict(_attributes(source, first)))
    images = group.create_array(
        "images",
        shape=shape,
        dtype="uint8",
        chunks=(1, *shape[1:]),
        shards=(CLASSES_PER_SHARD, *shape[1:]),
        compressors=_CODECS,
        fill_value=0,
        config={"write_empty_chunks": True},  # otherwise a blank class would look like a missing one
        dimension_names=("class", "drawing", "row", "column"),
    )
    stop = Event()
    write = delayed(partial(_write_shard, images, source, stop), pure=False)
    tasks = [
        write(start, dask_key_name=f"write-shard-{start // CLASSES_PER_SHARD}")
        for start in range(0, classes, CLASSES_PER_SHARD)
    ]
    # Threads: a spawned process takes seconds to import what it needs, and wants a guard in the caller's script.
    # This pool ends with the block, so no task still writes when the folder is removed.
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        try:
            checksums = np.concatenate(compute(*tasks, scheduler="threads", pool=pool))
        finally:
            stop.set()

    names = np.array(source.names, np.dtypes.StringDType())
    for name, values in (("alphabet", names[:, 0]), ("character", names[:, 1]), ("checksum", checksums)):
        group.create_array(
            name, data=values, chunks=(classes,), compressors=_CODECS, config={"write_empty_chunks": True}
        )


def checksum(pixels: NDArray[np.uint8]) -> int:
    """CRC-32 of a class's raw pixels; it does not depend on the codecs of the store."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def _write_shard(images: zarr.Array[Any], source: Source, stop: Event, start: int) -> NDArray[np.uint32]:
    """Read the classes of one shard, write them together, and return their checksums."""
    shard = np.zeros((min(CLASSES_PER_SHARD, len(source.names) - start), *images.shape[1:]), np.uint8)
    for place, pixels in enumerate(shard):
        if stop.is_set():  # another shard failed, or the user interrupted the command
            raise CancelledError
        drawings = source.read(start + place)
        pixels[: len(drawings)] = drawings
    images[start : start + len(shard)] = shard
    return np.array([checksum(pixels) for pixels in shard], np.uint32)


def _attributes(source: Source, first: NDArray[np.uint8]) -> Mapping[str, JSON]:
    try:
        fanfold = version("fanfold")
    except PackageNotFoundError:  # run from a clone that isn't installed
        fanfold = "unknown"
    return {
        **source.attributes,
        "dataset": source.dataset,
        "schema": SCHEMA,
        "height": first.shape[1],
        "width": first.shape[2],
        "fanfold": fanfold,
    }
