"""Memory, file descriptors and threads of processes while they run, and how fast they grow."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from scipy import stats

EVERY = 2.0  # seconds between samples
BLOCKS = 10  # means of as many successive parts are taken for independent
WARM = 120.0  # seconds that are left out once a process has imported what it needs: Dask's histories of 100 s fill
GROWN = 0.8  # the share of its largest memory that a process has then
LEAST = 60.0  # seconds that are left then, at least
LEAST_ITERATIONS = 50  # done in these

Roles = Callable[[], Mapping[str, Sequence[psutil.Process]]]


@dataclass(frozen=True)
class Sample:
    """A process at a time."""

    role: str
    process: tuple[int, float]  # its number, and when it began
    seconds: float  # since the epoch
    iteration: int  # meta-iterations done
    memory: int  # resident, in bytes
    files: int  # open file descriptors
    threads: int


@dataclass(frozen=True)
class Slope:
    """A straight line's slope through a quantity, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


class Sampler:
    """Samples processes in a thread, as a context manager."""

    def __init__(
        self, roles: Roles, iteration: Callable[[], int], keep: Callable[[Sample], None], every: float = EVERY
    ) -> None:
        self._roles, self._iteration, self._keep, self._every = roles, iteration, keep, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            now, iteration = time.time(), self._iteration()
            for role, processes in self._roles().items():
                for process in processes:
                    try:
                        facts = process.memory_info().rss, process.num_fds(), process.num_threads()
                        name = process.pid, process.create_time()
                    except psutil.Error:  # it has ended meanwhile
                        continue
                    if facts[0]:  # else it has ended, and its parent hasn't taken note of that yet
                        self._keep(Sample(role, name, now, iteration, *facts))


def by_process(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each process."""
    found: dict[tuple[str, int, float], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.role, *sample.process), []).append(sample)
    return list(found.values())


def warm(samples: Iterable[Sample], wanted: Callable[[Sample], bool] = lambda _: True) -> Iterator[list[Sample]]:
    """The wanted samples of each process, where they reach long enough, without those of its first time."""
    for part in by_process(samples):
        grown = GROWN * max(one.memory for one in part)
        began = next(one.seconds for one in part if one.memory > grown)
        late = [one for one in part if one.seconds - began > WARM and wanted(one)]
        if (
            late
            and late[-1].seconds - late[0].seconds > LEAST
            and late[-1].iteration - late[0].iteration >= LEAST_ITERATIONS
        ):
            yield late


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The slope of values over times, by means of `BLOCKS` successive parts: neighbouring samples depend on each other.

    Ordinary least squares, and Student's t with the parts' degrees of freedom.
    """
    parts = min(BLOCKS, len(times))
    across = [float(part.mean()) for part in np.array_split(np.asarray(times, float), parts)]
    along = [float(part.mean()) for part in np.array_split(np.asarray(values, float), parts)]
    found = stats.linregress(across, along)
    half = float(stats.t.ppf(0.975, parts - 2)) * float(found.stderr)
    return Slope(float(found.slope), float(found.slope) - half, float(found.slope) + half)
