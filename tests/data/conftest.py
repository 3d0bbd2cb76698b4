"""A small data set of noise, and stores of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fanfold.data.source import JSON, ClassName
from fanfold.data.store import write_store

BLANK = 3  # a class without ink: to be stored, not left out


@dataclass(frozen=True)
class NoiseSource:
    """Classes of noise; some drawings fewer in every third class where `varying`."""

    classes: int = 130
    drawings: int = 4
    size: tuple[int, int] = (6, 8)
    varying: bool = False
    alphabets: int = 5
    seed: int = 0
    dataset: str = "noise"

    @property
    def names(self) -> Sequence[ClassName]:
        return [ClassName(f"Alphabet {i * self.alphabets // self.classes}", f"ж{i}") for i in range(self.classes)]

    @property
    def attributes(self) -> Mapping[str, JSON]:
        return {"source": "noise"} | ({"drawings": self.counts()} if self.varying else {})

    def counts(self) -> list[int]:
        return [self.drawings - (self.varying and i % 3 == 0) for i in range(self.classes)]

    def read(self, index: int) -> NDArray[np.uint8]:
        if index == BLANK:
            return np.zeros((self.counts()[index], *self.size), np.uint8)
        generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        return generator.integers(1, 256, (self.counts()[index], *self.size), np.uint8)


@pytest.fixture
def noise() -> NoiseSource:
    return NoiseSource()


@pytest.fixture
def noise_store(noise: NoiseSource, tmp_path: Path) -> Path:
    path = tmp_path / "noise.zarr"
    write_store(path, noise, progress=False)
    return path
