"""What the cost model says of GPUs that nobody had: strong and weak scaling, on paper."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from fanfold.workflows.benchmark.scale.costs import Setup
from fanfold.workflows.benchmark.scale.simulation import Reduction

GPUS = (8, 64, 1_000)
BATCHES = (512, 4_096, 32_768)  # tasks a meta-batch, for strong scaling
SHARES = (32, 512)  # tasks a GPU, for weak scaling
EFFICIENCIES = (0.5, 0.8)
SMALL = 32  # tasks of the small meta-batch whose time is assumed

MOST = 2**24  # tasks a GPU, beyond which nobody goes

Cost = Callable[[Setup], float]


@dataclass(frozen=True)
class Gpu:
    """What a GPU takes, assumed: a time of its own for each chunk, and a time a task.

    Args:
        small: Seconds for 32 tasks.
        rate: Tasks a second, of many.
    """

    small: float
    rate: float

    def seconds(self, tasks: int) -> float:
        """Seconds for a chunk."""
        return self.launch + tasks / self.rate

    @property
    def launch(self) -> float:
        """Seconds a chunk takes however few tasks it has."""
        return max(0.0, self.small - SMALL / self.rate)


@dataclass(frozen=True)
class Projection:
    """A meta-batch on some GPUs.

    Args:
        gpus: How many GPUs.
        batch: Tasks a meta-batch.
        seconds: An iteration.
        tasks_per_second: The rate.
        efficiency: The rate, as a share of so many times that of one GPU that computes such a meta-batch alone.
    """

    gpus: int
    batch: int
    seconds: float
    tasks_per_second: float
    efficiency: float


def setup_of(reduction: Reduction, gpus: int, batch: int, gpu: Gpu, floats: int, window: int) -> Setup:
    """A meta-batch with a chunk a GPU, as far as it has tasks."""
    chunk = -(-batch // gpus)
    return Setup(reduction, gpus, -(-batch // chunk), gpu.seconds(chunk), floats, window, batch)


def project(cost: Cost, setup: Setup, gpu: Gpu) -> Projection:
    """What a meta-batch takes, and how well the GPUs are used."""
    seconds, alone = cost(setup), gpu.seconds(setup.tasks)
    return Projection(setup.workers, setup.tasks, seconds, setup.tasks / seconds, alone / (setup.workers * seconds))


def batch_for(
    efficiency: float, cost: Cost, reduction: Reduction, gpus: int, gpu: Gpu, floats: int, window: int
) -> int | None:
    """The smallest meta-batch with as many tasks for each GPU that reaches an efficiency; None if none does."""

    def reaches(share: int) -> bool:
        return project(cost, setup_of(reduction, gpus, share * gpus, gpu, floats, window), gpu).efficiency >= efficiency

    found = bisect_left(range(MOST), True, lo=1, key=reaches)  # the efficiency grows with the meta-batch
    return found * gpus if found < MOST else None
