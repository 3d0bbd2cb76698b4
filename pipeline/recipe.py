"""The recipe: everything that a run's numbers depend on."""

from dataclasses import dataclass
from math import cos, inf, pi
from typing import TYPE_CHECKING, Literal

from fanfold.data.errors import FanfoldError, check_at_least
from fanfold.tasks.episodes import EpisodeShape, check_seed

if TYPE_CHECKING:  # they import PyTorch, and a recipe needs none
    from fanfold.tasks.algorithm import Algorithm
    from fanfold.tasks.models import Model


@dataclass(frozen=True)
class Meta:
    """The outer loop.

    Args:
        batch: Tasks a meta-batch.
        chunk: Tasks a chunk. One worker computes a chunk at a time; a meta-batch's last chunk may be shorter.
        iterations: Length of the run in meta-iterations; none for a run bounded by `minutes` alone.
        minutes: Length of the run in minutes of training, validation included. The run ends with whichever comes first.
        lr: Meta rate.
        optimizer: The meta-optimizer: `adam`, or `sgd`, as Reptile was published.
        schedule: The meta rate's schedule: `constant`, or down to zero at `iterations`: `cosine`, `linear`.
        initial: A run directory, or a checkpoint, from whose best network the run starts: tensors by name where their
            shapes agree. Others start anew, and so does what the algorithm learns besides; none to start from nothing.
        clip: Gradient clipping: the size at which larger numbers of the mean meta-gradient are cut off; none for no
            clipping.
        weight_decay: Weight decay, decoupled from the gradient as in AdamW: each iteration takes this times the meta
            rate off every meta-parameter; 0 for none.
        average: Decay of a running average of the parameters, which is then validated and tested; 0 for none.
        window: Most meta-iterations that the scheduler gets in one message; by default as many as take some seconds,
            and no more than 50 as a graph.
        checkpoint: Meta-iterations between checkpoints; more where so many take less than seconds.
        threads: PyTorch threads that compute a chunk. Another number may round sums differently.
        together: Whether a chunk is vectorized over its tasks, as suits a GPU, or computed task by task, as suits a
            CPU, whose cache holds one task; by default what suits the device.
        precision: Precision of products on a GPU: `float32`; `tf32x3`, three tensor-core products of parts, which is
            nearly float32; or `tf32`, tensor cores with factors rounded to 11 bits. Sums are always float32.
    """

    batch: int = 32
    chunk: int = 8
    iterations: int | None = 10_000
    minutes: float | None = None
    lr: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    initial: str | None = None
    clip: float | None = None
    weight_decay: float = 0.0
    average: float = 0.0
    window: int | None = None
    checkpoint: int = 100
    threads: int = 1
    together: bool | None = None
    precision: Literal["float32", "tf32x3", "tf32"] = "float32"

    def __post_init__(self) -> None:
        check_at_least("meta", self, batch=1, chunk=1, window=1, checkpoint=1, threads=1, iterations=1)
        if self.iterations is None and self.minutes is None:
            raise FanfoldError("A run needs an end: give `meta.iterations` or `meta.minutes`.")
        if self.minutes is not None and not 0 < self.minutes < inf:
            raise FanfoldError(f"`meta.minutes` must be above 0, not {self.minutes}.")
        if not 0 < self.lr < inf:
            raise FanfoldError(f"`meta.lr` must be above 0, not {self.lr}.")
        if self.clip is not None and not 0 < self.clip < inf:
            raise FanfoldError(f"`meta.clip` must be above 0, not {self.clip}: leave it out for no clipping.")
        if not 0 <= self.weight_decay < inf:
            raise FanfoldError(f"`meta.weight_decay` must be at least 0, not {self.weight_decay}.")
        if self.lr * self.weight_decay >= 1:
            raise FanfoldError(
                f"`meta.weight_decay` of {self.weight_decay} times `meta.lr` of {self.lr} leaves nothing of the "
                "parameters: lower one."
            )
        if not 0 <= self.average < 1:
            raise FanfoldError(f"`meta.average` must be from 0 to below 1, not {self.average}.")
        if self.schedule != "constant" and self.iterations is None:
            raise FanfoldError(f"A {self.schedule} schedule ends at `meta.iterations`: give them.")

    @property
    def longest_graph(self) -> int:
        """The largest number of meta-iterations in a graph."""
        return self.window or 50

    def chunks(self, total: int | None = None, size: int | None = None) -> list[tuple[int, int]]:
        """First and last (exclusive) place of each chunk of a meta-batch, or of `total` tasks in chunks of `size`."""
        tasks, size = total or self.batch, size or self.chunk
        return [(first, min(first + size, tasks)) for first in range(0, tasks, size)]

    def lr_at(self, iteration: int) -> float:
        """The meta rate of an iteration, from 0."""
        if self.schedule == "constant" or self.iterations is None:
            return self.lr
        done = min(iteration / self.iterations, 1)
        return self.lr * (0.5 * (1 + cos(pi * done)) if self.schedule == "cosine" else 1 - done)


@dataclass(frozen=True)
class Recipe:
    """Everything that a worker must know to compute any chunk of a run."""

    seed: int
    store: str  # absolute path
    split: str
    algorithm: "Algorithm"
    model: "Model"
    train: EpisodeShape  # the training tasks
    task: EpisodeShape  # the tasks of validation and test
    steps: int | None  # inner steps at validation and test; None for as many as in training
    meta: Meta
    device: Literal["cpu", "cuda"] = "cpu"  # where chunks are computed
    fingerprint: str | None = None  # identifies the store's content; None where it was not opened yet
    augment: str | None = None  # how training pictures are changed, see `tasks.augmentation`
    flip: bool = False  # whether validation and test average over mirror images, see `tasks.flipped`

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    def vectorized(self) -> bool:
        """Whether a chunk is vectorized over its tasks."""
        return self.device == "cuda" if self.meta.together is None else self.meta.together
