"""How much there is to do in a meta-iteration: tasks, messages and bytes, counted from how the pipeline does it."""

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
    """What a meta-iteration is.

    Args:
        reduction: How its chunks are brought together.
        workers: How many workers there are.
        chunks: Chunks a meta-batch.
        seconds: What a chunk takes.
        floats: Parameters.
        window: Meta-iterations a window.
        batch: Tasks a meta-batch; default one a chunk.
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
        """Seconds that the chunks take, if the workers lose no time."""
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
    """What is to be done in a meta-iteration.

    Args:
        scheduled: Tasks that the scheduler hands out.
        turns: What workers take up one after another: a chunk, a fold, a step; in a gang, a rank's fold and
            step are one.
        doublings: log₂ of the workers.
        messages: What gloo's ranks send each other.
        bytes: Bytes of vectors sent.
    """

    scheduled: float
    turns: float
    doublings: float
    messages: float
    bytes: float


def all_work(setup: Setup) -> Work:
    """What all processes do together."""
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
    """What the worker with the most to do does; of the scheduler, all."""
    every = all_work(setup)
    chunks = -(-setup.chunks // setup.workers)
    if setup.reduction == "graph":
        sent = FLOAT * setup.floats * STATE * (len(set(setup.owners)) - 1)  # the one that made it sends all others one
        return Work(every.scheduled, chunks + len(levels(setup.chunks)) + 1, every.doublings, 0, sent)
    return Work(every.scheduled, chunks + 1, every.doublings, 2 * (setup.workers - 1), _sent_by_a_rank(setup))


def moved_to_folds(owners: Sequence[int]) -> int:
    """How many vectors must travel to be folded, level by level: each fold is where most of its parts are."""
    moved = 0
    for level in levels(len(owners)):
        groups = [[owners[place] for place in places] for places in level]
        owners = [max(group, key=group.count) for group in groups]
        moved += sum(owner != at for group, at in zip(groups, owners, strict=True) for owner in group)
    return moved


def _sent_by_a_rank(setup: Setup) -> float:
    """Bytes: to each other rank its segments of the rank's sums, with their facts, and then the stepped segment."""
    length = segment_size(setup.floats, setup.workers)
    rows = len(fold_ahead([], setup.owners, -1)[1]) / setup.workers
    row = length + FACTS
    end = 3 * length  # at a window's end the moments and the average are gathered too
    return float(FLOAT * (setup.workers - 1) * (rows * row + length + end / setup.window))


def _ends(setup: Setup) -> float:
    """Bytes of a state, a window: from the driver through the scheduler to a worker, and all the way back."""
    return 4 * FLOAT * setup.floats * STATE / setup.window
