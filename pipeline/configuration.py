"""The configuration of a run: one tree of typed dataclasses, by section."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import yaml

from fanfold.data.datasets import Dataset
from fanfold.pipeline.cluster.cluster import ClusterConfig
from fanfold.pipeline.evaluation import EvaluationConfig
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.episodes import EpisodeShape, check_counts
from fanfold.tasks.models import Model


@dataclass(frozen=True)
class TrainTask:
    """The training tasks, where they differ from the test tasks.

    Args:
        ways: Classes of a training task; by default as tested.
        shots: Support drawings of each class; by default as tested.
        queries: Query drawings of each class; by default as tested.
        rotations: Rotate every class of a training task by a multiple of 90°: each character becomes four classes.
        reflections: Mirror half of a training task's classes: each of these becomes two.
    """

    ways: int | None = None
    shots: int | None = None
    queries: int | None = None
    rotations: bool = True
    reflections: bool = False

    def __post_init__(self) -> None:
        check_counts("train", {"ways": self.ways, "shots": self.shots, "queries": self.queries})

    def shape(self, task: EpisodeShape) -> EpisodeShape:
        """The training tasks' shape, given the test tasks' shape."""
        ways, shots, queries = (
            getattr(task, name) if getattr(self, name) is None else getattr(self, name)
            for name in ("ways", "shots", "queries")
        )
        return EpisodeShape(ways, shots, queries, self.rotations, self.reflections)


@dataclass(frozen=True)
class Configuration:
    """All that a run depends on; some of it may be left open."""

    seed: int
    dataset: Dataset
    task: EpisodeShape
    train: TrainTask
    algorithm: Algorithm
    model: Model
    meta: Meta
    evaluation: EvaluationConfig
    cluster: ClusterConfig


SECTIONS = tuple(field.name for field in fields(Configuration) if field.name != "seed")


def to_yaml(config: dict[str, Any]) -> str:
    """A configuration of plain values and dataclasses as YAML."""
    plain = {key: asdict(value) if hasattr(value, "__dataclass_fields__") else value for key, value in config.items()}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def flatten_keys(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration tree by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten_keys(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
