"""The work of a meta-iteration: tasks, messages and bytes, counted from the pipeline's code."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from fanfold.pipeline.executors.segments import FACTS, segment_size
from fanfold.pipeline.fold import fold_ahead, levels, owners_of
from fanfold.workflows.benchmark.scale.simulation import Reduction

FLOAT = 4  # bytes
STATE = 3  # vectors of a state that travel: parameters and Adam's moments; without an average, it is the parameters


@dataclass(frozen=True)
class Setup:
    """The setup of a meta-iteration.

    Args:
        reduction: How gradients are combined.
        workers: The number of workers.
        chunks: Chunks of a meta-batch.
        seconds: Seconds of a chunk.
        floats: The number of parameters.
        window: Meta-iterations of a window.
        batch: Tasks of a meta-batch; by default one a chunk.
    """

    reduction: Reduction
    workers: int
    chunks: int
    seconds: float
    floats: int
    window: int
    batch: int | None = None

    @property
    def computing(self) -> float:
        """Seconds of the chunks without any overhead."""
        return self.seconds * -(-self.chunks // self.workers)

    @property
    def owners(self) -> list[int]:
        """The worker of each chunk."""
        return owners_of(self.chunks, self.workers)

    @property
    def tasks(self) -> int:
        """Tasks a meta-batch."""
        return self.chunks if self.batch is None else self.batch


@dataclass(frozen=True)
class Work:
    """The work of a meta-iteration.

    Args:
        scheduled: Tasks of the scheduler.
        turns: Units of work of the workers: chunks, folds and steps; in a gang, a rank's fold and step are one.
        doublings: log₂ of the workers.
        messages: Messages between gloo's ranks.
        bytes: Bytes of sent vectors.
    """

    scheduled: float
    turns: float
    doublings: float
    messages: float
    bytes: float


def all_work(setup: Setup) -> Work:
    """The work of all processes."""
    workers, doublings = setup.workers, log2(setup.workers)
    if setup.reduction == "graph":
        tasks = setup.chunks + sum(len(level) for level in levels(setup.chunks)) + 1
        copies = len(set(setup.owners)) - 1
        vectors = STATE * copies + moved_to_folds(setup.owners)
        return Work(tasks, tasks, doublings, 0, FLOAT * setup.floats * vectors + _ends(setup))
    sent = workers * _sent_by_a_rank(setup)
    messages = 2 * workers * (workers - 1)
    back = _ends(setup) / 2  # between windows the gang keeps the state
    return Work(workers / setup.window, setup.chunks + workers, doublings, messages, sent + back)


def busiest_work(setup: Setup) -> Work:
    """The work of the busiest worker, and all of the scheduler's."""
    every = all_work(setup)
    chunks = -(-setup.chunks // setup.workers)
    if setup.reduction == "graph":
        sent = FLOAT * setup.floats * STATE * (len(set(setup.owners)) - 1)  # its maker sends a copy to all others
        return Work(every.scheduled, chunks + len(levels(setup.chunks)) + 1, every.doublings, 0, sent)
    return Work(every.scheduled, chunks + 1, every.doublings, 2 * (setup.workers - 1), _sent_by_a_rank(setup))


def moved_to_folds(owners: Sequence[int]) -> int:
    """The number of vectors sent for folds, level by level: each fold runs where most of its parts are."""
    moved = 0
    for level in levels(len(owners)):
        groups = [[owners[place] for place in places] for places in level]
        owners = [max(group, key=group.count) for group in groups]
        moved += sum(owner != at for group, at in zip(groups, owners, strict=True) for owner in group)
    return moved


def _sent_by_a_rank(setup: Setup) -> float:
    """Bytes from a rank to all others: the segments of its sums with their facts, then the stepped segment."""
    length = segment_size(setup.floats, setup.workers)
    rows = len(fold_ahead([], setup.owners, -1)[1]) / setup.workers
    row = length + FACTS
    end = 3 * length  # at a window's end the moments and the average are gathered too
    return float(FLOAT * (setup.workers - 1) * (rows * row + length + end / setup.window))


def _ends(setup: Setup) -> float:
    """Bytes of a state, per iteration of a window: from the driver through the scheduler to a worker, and back."""
    return 4 * FLOAT * setup.floats * STATE / setup.window
