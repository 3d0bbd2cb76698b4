"""What a simulated worker computes: chunks of an algorithm that sleeps, for as long as a chunk would take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fanfold.data.pictures import Preprocessing
from fanfold.data.source import ClassName, Source
from fanfold.data.store import write_store
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.tasks.algorithm import Algorithm, Classify, MetaGradient
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.network import Network

CLASSES, SIDE = 40, 4  # of the images, as few and small as can be


@dataclass(frozen=True)
class Sleep(Algorithm):
    """An algorithm that sleeps, and whose gradient is the parameters times the tasks' mean pixel.

    Args:
        seconds: How long a chunk sleeps.
        floats: How many meta-parameters there are.
    """

    normalizations = ("batch",)

    name: str = "sleep"
    seconds: float = 0.0
    floats: int = 1

    def initialize(self, network: Network) -> Tensor:
        """Numbers from -1 to 1."""
        return torch.from_numpy(np.linspace(-1, 1, self.floats, dtype=np.float32))

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """A gradient that no other chunk has."""
        time.sleep(self.seconds)
        ones = torch.ones(len(tasks))
        return MetaGradient(parameters * tasks.support.mean(), ones, ones / 2)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """Nothing is classified."""
        raise NotImplementedError


@dataclass(frozen=True)
class Tiny:
    """A network that nothing asks."""

    def build(self, ways: int, size: tuple[int, int], channels: int = 1) -> nn.Module:
        """One linear layer."""
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], ways))


class Noise(Source):
    """A data set of random images."""

    dataset = "noise"
    counts = (2,) * CLASSES
    preprocessing = Preprocessing(SIDE, 1)
    origin = MappingProxyType({"source": "noise"})

    @property
    def names(self) -> Sequence[ClassName]:
        """The classes' names."""
        return [ClassName("noise", str(number)) for number in range(CLASSES)]

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        """See `data.source.Source`."""
        return list(np.random.default_rng(index).integers(0, 256, (2, 1, SIDE, SIDE), np.uint8)[first:last])


def write_noise(path: Path) -> None:
    """Write the store of the simulated tasks."""
    write_store(path, Noise(), progress=False)


def sleeping_recipe(store: Path, chunks: int, seconds: float, window: int, floats: int) -> Recipe:
    """A recipe whose meta-batch is some chunks of one task each.

    Args:
        store: The store, see `write_noise`.
        chunks: Chunks a meta-batch.
        seconds: How long each of them takes.
        window: Meta-iterations a window.
        floats: How many meta-parameters there are.
    """
    shape = EpisodeShape(2, 1, 1)
    meta = Meta(batch=chunks, chunk=1, window=window)
    sleep = Sleep(seconds=seconds, floats=floats)
    return Recipe(0, str(store), "random", sleep, Tiny(), train=shape, task=shape, steps=None, meta=meta)
