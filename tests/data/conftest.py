"""A small data set of noise, and stores of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from fanfold.data import schema
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.data.plain import JSON
from fanfold.data.source import ClassName, Source
from fanfold.data.store import write_store

BLANK = 3  # a class without ink: to be stored, not left out


@dataclass(frozen=True)
class NoiseSource(Source):
    """Classes of noise; of every third class some pictures fewer where `varying`."""

    classes: int = 130
    pictures: int = 4
    size: tuple[int, int] = (6, 8)
    varying: bool = False
    groups: int = 5
    seed: int = 0
    dataset: str = "noise"
    channels: Literal[1, 3] = 1

    @property
    def names(self) -> Sequence[ClassName]:
        return [ClassName(f"Group {i * self.groups // self.classes}", f"ж{i}") for i in range(self.classes)]

    @property
    def counts(self) -> list[int]:
        return [self.pictures - (self.varying and i % 3 == 0) for i in range(self.classes)]

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(max(self.size), self.channels)

    @property
    def origin(self) -> Mapping[str, JSON]:
        return {"source": "noise"}

    def whole(self, index: int) -> NDArray[np.uint8]:
        """All pictures of a class, `[pictures, channels, height, width]`."""
        shape = (self.counts[index], self.channels, *self.size)
        if index == BLANK:
            return np.zeros(shape, np.uint8)
        return np.random.Generator(np.random.Philox(key=[self.seed, index])).integers(1, 256, shape, np.uint8)

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8] | FanfoldError]:
        return list(self.whole(index)[first:last])


@pytest.fixture(autouse=True, scope="package")
def small_chunks() -> Iterator[None]:
    """Chunks of 8 pictures of noise, 16 a shard: stores of some chunks and shards, without as many pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "CHUNK_BYTES", 8 * 6 * 8)
        patch.setattr(schema, "CHUNKS_PER_SHARD", 16)
        yield


@pytest.fixture
def noise() -> NoiseSource:
    return NoiseSource()


@pytest.fixture
def noise_store(noise: NoiseSource, tmp_path: Path) -> Path:
    path = tmp_path / "noise.zarr"
    write_store(path, noise, progress=False)
    return path
