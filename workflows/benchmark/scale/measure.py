"""Measurements of meta-iterations on a simulated cluster."""

import statistics
import time
from dataclasses import dataclass
from uuid import uuid4

from dask.system import CPU_COUNT

from fanfold.pipeline import worker
from fanfold.pipeline.events import Event
from fanfold.pipeline.executors.choose import open_executor
from fanfold.workflows.benchmark.scale.costs import Setup, all_work
from fanfold.workflows.benchmark.scale.simulated import sleeping_recipe
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
    recipe = sleeping_recipe(simulation.store, setup.chunks, setup.seconds, setup.window, setup.floats)
    times: list[float] = []
    with open_executor(simulation.cluster, recipe, uuid4().hex[:8], _no_one) as executor:
        state = executor.window(worker.initialize(recipe), WARMING).state
        before, began = simulation.usage(), time.perf_counter()
        while len(times) < WINDOWS or sum(times) < seconds:
            then = time.perf_counter()
            state = executor.window(state, setup.window).state
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


def _no_one(_: Event) -> None:
    """Nobody is told."""
