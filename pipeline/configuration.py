"""The configuration of a run: one tree of typed dataclasses, by section."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError, check_at_least
from fanfold.pipeline import yaml_text
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.half_width import FIRST
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.episodes import LEAST, EpisodeShape, check_augment, check_counts

if TYPE_CHECKING:  # these import Zarr and PyTorch, which takes seconds; a command's help needs neither
    from fanfold.data.datasets import Dataset
    from fanfold.tasks.algorithm import Algorithm
    from fanfold.tasks.models import Model

MANY = 20
"""Classes of a training task of many ways: more are hardly better, and take longer."""
WAYS, QUERIES, TRAIN_QUERIES = 5, 5, 3
"""What `auto` is where there are enough classes and pictures."""


@dataclass(frozen=True)
class TaskConfig:
    """The tasks of validation and test.

    Args:
        ways: Classes in a task; `auto` for 5, or all that there are to test with where these are fewer.
        shots: Support images of each class.
        queries: Query images of each class; `auto` for 5, or as many as the classes of a task have beside the support
            images, where these are fewer.
        rotations: Rotate every class of a task by a random multiple of 90°. Each class of the store then stands for
            four classes, never for two of the same task (the protocol of MAML, Finn et al. 2017).
        reflections: Mirror a random half of the classes before they are rotated, which doubles their number again.
    """

    ways: int | Literal["auto"] = 5
    shots: int = 1
    queries: int | Literal["auto"] = 1
    rotations: bool = False
    reflections: bool = False

    def __post_init__(self) -> None:
        check_counts("task", {name: _number(getattr(self, name)) for name in LEAST})

    def shape(self, parts: Sequence[NDArray[np.int64]]) -> EpisodeShape:
        """The tasks' shape.

        Args:
            parts: The number of pictures of each class, for every part of the split that tasks are drawn from.
        """
        ways, queries = _number(self.ways), _number(self.queries)
        if ways is None:
            images = self.shots + (queries or LEAST["queries"])
            able = min(int((counts >= images).sum()) for counts in parts)
            ways = max(LEAST["ways"], min(WAYS, able))
        if queries is None:
            most = min(int(np.sort(counts)[-ways]) if len(counts) >= ways else 0 for counts in parts) - self.shots
            queries = max(LEAST["queries"], min(QUERIES, most))
        return EpisodeShape(ways, self.shots, queries, self.rotations, self.reflections)


@dataclass(frozen=True)
class TrainTask:
    """The training tasks, where they differ from the test tasks.

    Args:
        ways: Classes of a training task; by default as tested. `many` are 20, or all training classes where there are
            fewer, for an algorithm that is tested with any number; others train as they are tested.
        shots: Support pictures of each class; by default as tested.
        queries: Query pictures of each class; by default as tested. `auto` are 3, or as many as half of the training
            classes have beside the support pictures, where these are fewer.
        rotations: Rotate every class of a training task by a multiple of 90°: each becomes four classes; by default so
            for handwriting alone.
        reflections: Mirror half of a training task's classes: each of these becomes two.
        augment: How each training picture is changed at random: some of `flip` (left to right), `crop` (to 35 to 100 %
            of its area, and back to its size) and `colour` (brightness, contrast and saturation by up to 40 %), with
            commas between them; none for as it is.
    """

    ways: int | Literal["many"] | None = None
    shots: int | None = None
    queries: int | Literal["auto"] | None = None
    rotations: bool | None = None
    reflections: bool = False
    augment: str | None = None

    def __post_init__(self) -> None:
        check_augment(self.augment)
        check_counts("train", {name: _number(getattr(self, name)) for name in LEAST})

    def shape(self, task: EpisodeShape, counts: NDArray[np.int64], *, handwriting: bool, many: bool) -> EpisodeShape:
        """The training tasks' shape.

        Args:
            task: The test tasks' shape.
            counts: The number of pictures of each training class.
            handwriting: Whether the pictures are handwriting.
            many: Whether the algorithm can be tested with other ways than in training.
        """
        shots = task.shots if self.shots is None else self.shots
        queries = task.queries if self.queries is None else _number(self.queries)
        if queries is None:
            usual = int(np.median(counts)) if len(counts) else 0
            queries = max(LEAST["queries"], min(TRAIN_QUERIES, usual - shots))
        able = int((counts >= shots + queries).sum()) if many else 0
        ways = task.ways if self.ways is None else _number(self.ways)
        if ways is None:
            ways = min(MANY, able) if able >= LEAST["ways"] else task.ways
        rotations = handwriting if self.rotations is None else self.rotations
        return EpisodeShape(ways, shots, queries, rotations, self.reflections)


def _number(count: int | str | None) -> int | None:
    """A count that is given as a number; None for one that is `auto` or `many`, or left out."""
    return count if isinstance(count, int) else None


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of validation and test.

    Args:
        every: Meta-iterations between validations.
        validation_tasks: Tasks of a validation.
        tasks: Tasks of a test.
        half_width: Test on as many more tasks as half the width of the accuracy's 95 % interval, in percentage points,
            takes to be at most this, such as 0.5; none for `tasks` alone.
        other_tasks: Tasks of the test in the other way: inductive where the published test is transductive, and the
            reverse; 0 for none.
        steps: Inner steps at validation and test; null for as many as in training.
        flip: Test-time augmentation: whether validation, tests and labels take the mean of what the network makes of a
            picture and of its mirror image; what a frozen network embeds once is that mean in training, too.
        patience: Early stopping: validations in a row without a better accuracy after which training ends; none for
            training to its end.
    """

    every: int = 500
    validation_tasks: int = 200
    tasks: int = 1000
    half_width: float | None = None
    other_tasks: int = 500
    steps: int | None = None
    flip: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        check_at_least("evaluation", self, every=1, validation_tasks=2, tasks=2, steps=0, patience=1)
        if self.other_tasks < 0 or self.other_tasks == 1:
            raise FanfoldError(f"`evaluation.other_tasks` must be 0 or at least 2, not {self.other_tasks}.")
        if self.half_width is not None:
            if not 0 < self.half_width < 100:
                raise FanfoldError(
                    "`evaluation.half_width` must be above 0 and below 100, in percentage points, "
                    f"not {self.half_width}."
                )
            if self.tasks < FIRST:
                raise FanfoldError(
                    f"`evaluation.half_width` needs at least {FIRST} tasks to judge by, not "
                    f"`evaluation.tasks={self.tasks}`."
                )


@dataclass(frozen=True)
class Configuration:
    """All that a run depends on; some of it may be left open."""

    seed: int
    dataset: "Dataset"
    task: TaskConfig
    train: TrainTask
    algorithm: "Algorithm"
    model: "Model"
    meta: Meta
    evaluation: EvaluationConfig
    cluster: ClusterConfig


SECTIONS = tuple(field.name for field in fields(Configuration) if field.name != "seed")


def to_yaml(config: dict[str, Any]) -> str:
    """A configuration of plain values and dataclasses as YAML."""
    plain = {key: asdict(value) if hasattr(value, "__dataclass_fields__") else value for key, value in config.items()}
    return yaml_text.dump(plain)


def flatten_keys(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration tree by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten_keys(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
