"""The schema of a store: what its parts are, and the digest that identifies its content."""

import hashlib
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanfold.data.plain import JSON
from fanfold.data.source import ClassName

SCHEMA = 2
"""The schema's version. Stores of other versions have to be prepared again."""

PARTS = ("train", "validation", "test")
"""The parts of a split."""

CHUNK_BYTES = 2**18
CHUNKS_PER_SHARD = 64

_UNSEALED = ("seal",)
_NO_CONTENT = ("origin", "digest", "seal")


def is_split(parts: Collection[str]) -> bool:
    """Whether the parts that classes belong to are a split: some train, and others validate or test."""
    return "train" in parts and ("validation" in parts or "test" in parts)


def layout(pictures: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Pictures of a chunk and of a shard, in a store of so many pictures `[channels, height, width]`."""
    chunk = max(1, min(pictures, CHUNK_BYTES // int(np.prod(shape))))
    return chunk, chunk * max(1, min(CHUNKS_PER_SHARD, -(-pictures // chunk)))


def checksum(pixels: NDArray[Any]) -> int:
    """CRC-32 of the raw pixels (or embeddings) of a chunk's pictures; it does not depend on the codecs of the store."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def checksums(pixels: NDArray[Any], chunk: int) -> list[int]:
    """The checksums of pictures from a chunk's first one on, `chunk` pictures each."""
    return [checksum(pixels[start : start + chunk]) for start in range(0, len(pixels), chunk)]


def paths_checksum(paths: Sequence[str]) -> int:
    """CRC-32 of the pictures' names."""
    return zlib.crc32("\n".join(paths).encode())


def digest(
    attributes: Mapping[str, JSON],
    shape: tuple[int, ...],
    first: NDArray[np.int64],
    names: Sequence[ClassName],
    splits: Sequence[str],
    checksums: NDArray[np.uint32],
) -> str:
    """SHA-256 of all that decides what is learnt from a store, in hexadecimal digits; its origin is no part of it."""
    content = {key: value for key, value in attributes.items() if key not in _NO_CONTENT}
    text = _canonical([content, list(shape), [list(name) for name in names], list(splits)])
    found = hashlib.sha256(text)
    found.update(np.ascontiguousarray(first, "<i8").tobytes())
    found.update(np.ascontiguousarray(checksums, "<u4").tobytes())
    return found.hexdigest()


def seal(attributes: Mapping[str, JSON]) -> str:
    """SHA-256 of all attributes of a store, the digest and the origin included."""
    return hashlib.sha256(
        _canonical({key: value for key, value in attributes.items() if key not in _UNSEALED})
    ).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()
