"""The configuration of a run: one tree of typed dataclasses, by section."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from fanfold.data.errors import FanfoldError, check_at_least
from fanfold.pipeline import yaml_text
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.half_width import FIRST
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.episodes import EpisodeShape, check_augment, check_counts

if TYPE_CHECKING:  # these import Zarr and PyTorch, which takes seconds; a command's help needs neither
    from fanfold.data.datasets import Dataset
    from fanfold.tasks.algorithm import Algorithm
    from fanfold.tasks.models import Model

MANY = 20
"""Classes of a training task of many ways: more are hardly better, and take longer."""


@dataclass(frozen=True)
class TrainTask:
    """The training tasks, where they differ from the test tasks.

    Args:
        ways: Classes of a training task; by default as tested. `many` are 20, or all training classes where there are
            fewer, for an algorithm that is tested with any number; others train as they are tested.
        shots: Support pictures of each class; by default as tested.
        queries: Query pictures of each class; by default as tested.
        rotations: Rotate every class of a training task by a multiple of 90°: each becomes four classes; by default so
            for handwriting alone.
        reflections: Mirror half of a training task's classes: each of these becomes two.
        augment: How each training picture is changed at random: some of `flip` (left to right), `crop` (to 35 to 100 %
            of its area, and back to its size) and `colour` (brightness, contrast and saturation by up to 40 %), with
            commas between them; none for as it is.
    """

    ways: int | Literal["many"] | None = None
    shots: int | None = None
    queries: int | None = None
    rotations: bool | None = None
    reflections: bool = False
    augment: str | None = None

    def __post_init__(self) -> None:
        check_augment(self.augment)
        ways = None if self.ways == "many" else self.ways
        check_counts("train", {"ways": ways, "shots": self.shots, "queries": self.queries})

    def shape(self, task: EpisodeShape, *, handwriting: bool, most: int = 0) -> EpisodeShape:
        """The training tasks' shape.

        Args:
            task: The test tasks' shape.
            handwriting: Whether the pictures are handwriting.
            most: How many classes `many` ways may be; 0 where an algorithm trains as it is tested.
        """
        ways = self.ways if self.ways != "many" else min(MANY, most) or None
        ways, shots, queries = (
            getattr(task, name) if value is None else value
            for name, value in (("ways", ways), ("shots", self.shots), ("queries", self.queries))
        )
        rotations = handwriting if self.rotations is None else self.rotations
        return EpisodeShape(ways, shots, queries, rotations, self.reflections)


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
        patience: Early stopping: validations in a row without a better accuracy after which training ends; none for
            training to its end.
    """

    every: int = 500
    validation_tasks: int = 200
    tasks: int = 1000
    half_width: float | None = None
    other_tasks: int = 500
    steps: int | None = None
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
    task: EpisodeShape
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
