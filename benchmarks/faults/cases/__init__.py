"""All cases, a file a kind."""

from benchmarks.faults.case import Case
from benchmarks.faults.cases import checkpoints, clock, disk, drivers, network, scheduler, store, workers

CASES: tuple[Case, ...] = tuple(
    case for kind in (workers, drivers, scheduler, network, disk, store, checkpoints, clock) for case in kind.CASES
)
