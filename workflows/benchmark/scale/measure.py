"""Measurements of meta-iterations on a simulated cluster."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from dask.system import CPU_COUNT

from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.events import Event
from fanfold.pipeline.executors.choose import run_window
from fanfold.pipeline.executors.gang import Gangs
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe
from fanfold.workflows.benchmark.scale.costs import Setup, all_work
from fanfold.workflows.benchmark.scale.simulated import adapt, first_state, sleeping_recipe
from fanfold.workflows.benchmark.scale.simulation import Simulation

WINDOWS = 2  # of a median, at least
WARMING = 2  # meta-iterations before the measurement


@dataclass(frozen=True)
class Measured:
    """A measurement; all values but the first two are of a meta-iteration.

    Args:
        windows: The number of measured windows.
        busy: The share of the machine's cores that these processes used.
        seconds: Duration, as the median over the windows.
        scheduler: CPU seconds of the scheduler's process.
        workers: CPU seconds of all workers' processes.
        driver: CPU seconds of the driver's process.
        loopback: Bytes over the machine's loopback interface.
        counted: Bytes of sent vectors, counted from the code.
        efficiency: Seconds of all chunks as a share of the workers' seconds.
    """

    windows: int
    busy: float
    seconds: float
    scheduler: float
    workers: float
    driver: float
    loopback: float
    counted: float
    efficiency: float


def measure(simulation: Simulation, setup: Setup, seconds: float) -> Measured:
    """Measure windows for some seconds, after a short one.

    Raises:
        RunError: Workers are lost.
    """
    recipe = sleeping_recipe(setup.chunks, setup.seconds, setup.window)
    times: list[float] = []
    with windows_of(simulation.cluster, recipe) as compute:
        state = compute(first_state(setup.floats), WARMING)
        before, began = simulation.usage(), time.perf_counter()
        while len(times) < WINDOWS or sum(times) < seconds:
            then = time.perf_counter()
            state = compute(state, setup.window)
            times.append(time.perf_counter() - then)
        used, took = simulation.usage().since(before), time.perf_counter() - began
    iterations, median = len(times) * setup.window, statistics.median(times) / setup.window
    return Measured(
        windows=len(times),
        busy=(used.scheduler + used.workers + used.driver) / (took * CPU_COUNT),
        seconds=median,
        scheduler=used.scheduler / iterations,
        workers=used.workers / iterations,
        driver=used.driver / iterations,
        loopback=used.loopback / iterations,
        counted=all_work(setup).bytes,
        efficiency=setup.chunks * setup.seconds / (setup.workers * median),
    )


@contextmanager
def windows_of(cluster: Cluster, recipe: Recipe) -> Iterator[Callable[[State, int], State]]:
    """The function that computes windows, by the cluster's reduction."""
    run = uuid4().hex[:8]
    if cluster.reduction == "graph":
        yield partial(run_window, cluster, run, recipe, adapt=adapt)
        return
    with closing(Gangs(cluster, run, recipe, _ignore, adapt)) as gangs:
        yield lambda state, iterations: gangs.window(state, iterations).state


def _ignore(_: Event) -> None:
    """Ignore an event."""
