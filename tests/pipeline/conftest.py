"""A small store that can be learnt from, small recipes on it, and clusters to compute them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from fanfold.data.pictures import Preprocessing
from fanfold.data.plain import JSON
from fanfold.data.source import ClassName, Source
from fanfold.data.store import write_store
from fanfold.pipeline.cluster.cluster import Cluster, open_cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Conv4Stride
from tests.waiting import wait_for

Opening: TypeAlias = Callable[[int], AbstractContextManager[Cluster]]


class PatternSource(Source):
    """Classes are random patterns, drawings of them differ by noise."""

    dataset = "patterns"
    counts = (8,) * 60
    preprocessing = Preprocessing(16, 1)

    @property
    def names(self) -> Sequence[ClassName]:
        return [ClassName(f"Alphabet {i // 12}", f"pattern {i}") for i in range(60)]

    @property
    def origin(self) -> Mapping[str, JSON]:
        return {"source": "patterns"}

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        generator = np.random.Generator(np.random.Philox(key=[7, index]))
        pattern = np.kron(generator.random((4, 4)) > 0.5, np.ones((4, 4))) * 200
        return list(np.clip(pattern + generator.normal(0, 25, (8, 1, 16, 16)), 0, 255).astype(np.uint8)[first:last])


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "patterns.zarr"
    write_store(path, PatternSource(), progress=False)
    return path


@pytest.fixture(scope="session")
def recipe(patterns: Path) -> Recipe:
    """MAML on a small network: a meta-batch of 10 tasks in four chunks, the last one shorter."""
    return Recipe(
        seed=3,
        store=str(patterns),
        split="alphabets",
        algorithm=Maml(inner_lr=0.1, inner_steps=1),
        model=Conv4Stride(width=8),
        train=EpisodeShape(3, 1, 2, True),
        task=EpisodeShape(3, 1, 2),
        steps=2,
        meta=Meta(batch=10, chunk=3, iterations=20, window=5, checkpoint=10, lr=3e-3),
    )


@pytest.fixture(scope="session")
def small_cluster() -> Opening:
    """Opens a cluster of some workers on this machine."""

    @contextmanager
    def opened(workers: int) -> Iterator[Cluster]:
        with open_cluster(ClusterConfig(kind="cpu", workers=workers, dashboard=":0")) as cluster:
            yield cluster

    return opened


@pytest.fixture(scope="session")
def pair(small_cluster: Opening) -> Iterator[Cluster]:
    """A cluster of two workers, shared by the tests that leave it whole."""
    with small_cluster(2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def three(small_cluster: Opening) -> Iterator[Cluster]:
    """A cluster of three workers, shared as `trio`."""
    with small_cluster(3) as cluster:
        yield cluster


@pytest.fixture
def trio(three: Cluster) -> Iterator[Cluster]:
    """A cluster of three workers, shared: for one that a test kills another one comes before the next test."""
    yield three
    wait_for(lambda: three.workers == 3)


@pytest.fixture(scope="session")
def slow_recipe(recipe: Recipe) -> Recipe:
    """The same with a larger network, so that there is time to interfere."""
    return replace(recipe, model=Conv4Stride(width=48))
