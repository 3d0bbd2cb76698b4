"""Strong and weak scaling on GPUs, projected by the cost model without a measurement."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from fanfold.workflows.benchmark.scale.costs import Setup
from fanfold.workflows.benchmark.scale.simulation import Reduction

GPUS = (8, 64, 1_000)
BATCHES = (512, 4_096, 32_768)  # tasks a meta-batch, for strong scaling
SHARES = (32, 512)  # tasks a GPU, for weak scaling
EFFICIENCIES = (0.5, 0.8)
SMALL = 32  # tasks of a small meta-batch of assumed time

MOST = 2**24  # tasks of a GPU, the limit of the search

Cost = Callable[[Setup], float]


@dataclass(frozen=True)
class Gpu:
    """A GPU's assumed times: one for each chunk, and one for each task.

    Args:
        small: Seconds for 32 tasks.
        rate: Tasks a second of large chunks.
    """

    small: float
    rate: float

    def seconds(self, tasks: int) -> float:
        """Seconds for a chunk."""
        return self.launch + tasks / self.rate

    @property
    def launch(self) -> float:
        """Seconds of a chunk besides its tasks."""
        return max(0.0, self.small - SMALL / self.rate)


@dataclass(frozen=True)
class Projection:
    """A meta-batch on some GPUs.

    Args:
        gpus: The number of GPUs.
        batch: Tasks of a meta-batch.
        seconds: Seconds of an iteration.
        tasks_per_second: The rate.
        efficiency: The rate relative to the GPUs' number times that of one GPU that computes the meta-batch alone.
    """

    gpus: int
    batch: int
    seconds: float
    tasks_per_second: float
    efficiency: float


def setup_of(reduction: Reduction, gpus: int, batch: int, gpu: Gpu, floats: int, window: int) -> Setup:
    """A meta-batch with a chunk for each GPU, if it has enough tasks."""
    chunk = -(-batch // gpus)
    return Setup(reduction, gpus, -(-batch // chunk), gpu.seconds(chunk), floats, window, batch)


def project(cost: Cost, setup: Setup, gpu: Gpu) -> Projection:
    """The time of a meta-batch, and the efficiency of the GPUs."""
    seconds, alone = cost(setup), gpu.seconds(setup.tasks)
    return Projection(setup.workers, setup.tasks, seconds, setup.tasks / seconds, alone / (setup.workers * seconds))


def batch_for(
    efficiency: float, cost: Cost, reduction: Reduction, gpus: int, gpu: Gpu, floats: int, window: int
) -> int | None:
    """The smallest meta-batch, with equally many tasks a GPU, that reaches an efficiency; None if none does."""

    def reaches(share: int) -> bool:
        return project(cost, setup_of(reduction, gpus, share * gpus, gpu, floats, window), gpu).efficiency >= efficiency

    found = bisect_left(range(MOST), True, lo=1, key=reaches)  # the efficiency grows with the meta-batch
    return found * gpus if found < MOST else None
