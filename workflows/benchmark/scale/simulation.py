"""A scheduler and simulated workers, each a process of its own, and their use of the machine."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

import dask
import psutil
from distributed import Client

from fanfold.data.errors import RunError
from fanfold.pipeline.cluster.cluster import DASK_SETTINGS, Cluster
from fanfold.pipeline.cluster.preload import WORKER_ENVIRONMENT
from fanfold.workflows.benchmark.scale.simulated import write_noise

Reduction = Literal["graph", "collective"]

# What workers need beside Dask; imported once, before they are forked.
IMPORTS = ("fanfold.workflows.benchmark.scale.simulated", "fanfold.pipeline.executors.gang_member")
# What every process does whether it has work or not: a sign of its event loop's life 50 times a second, and a look at
# CPU and memory twice. It takes a hundredth of a core, which a worker with a core of its own doesn't miss, but many do
# that share one.
QUIET = {"distributed.admin.tick.interval": "1s", "distributed.admin.system-monitor.interval": "5s"}
STARTING = 60.0  # seconds that a scheduler, or some more workers, may take to start
ENDING = 3.0  # seconds that a process may take to end after its standard input is closed
ABANDONED = "2 minutes"  # without work, after which an abandoned scheduler ends


@dataclass(frozen=True)
class Usage:
    """The use of the machine up to a moment.

    Args:
        scheduler: CPU seconds of the scheduler's process.
        workers: CPU seconds of all workers' processes.
        driver: CPU seconds of this process.
        loopback: All bytes over the machine's loopback interface; nan where the system doesn't count them.
    """

    scheduler: float
    workers: float
    driver: float
    loopback: float

    def since(self, before: "Usage") -> "Usage":
        """The use between two moments."""
        return Usage(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


class Simulation:
    """A cluster of simulated workers.

    Args:
        cluster: The cluster.
        scheduler: The scheduler's process.
        herd: The process that forks workers.
        store: The store of the simulated tasks.
    """

    def __init__(
        self, cluster: Cluster, scheduler: "subprocess.Popen[bytes]", herd: "subprocess.Popen[bytes]", store: Path
    ) -> None:
        self.cluster, self.store = cluster, store
        self._herd, self._parent, self._scheduler = herd, psutil.Process(herd.pid), psutil.Process(scheduler.pid)
        self._workers: list[psutil.Process] = []

    def grow(self, workers: int) -> None:
        """Start workers up to this number, which must not be less than the present one.

        Raises:
            RunError: The workers don't start in time.
        """
        assert self._herd.stdin is not None
        self._herd.stdin.write(f"{workers}\n".encode())
        self._herd.stdin.flush()
        try:
            self.cluster.client.wait_for_workers(workers, timeout=STARTING)
        except TimeoutError as error:
            raise RunError(
                f"{self.cluster.workers} of {workers} simulated workers started within {STARTING:.0f} s."
            ) from error
        self._workers = self._parent.children()

    def usage(self) -> Usage:
        """The use up to now."""
        scheduler, driver = seconds_of_cpu(self._scheduler), seconds_of_cpu(psutil.Process())
        return Usage(scheduler, sum(map(seconds_of_cpu, self._workers)), driver, bytes_over_loopback())

    def at_rest(self, seconds: float) -> Usage:
        """The use in a second without work, as the mean over some seconds."""
        before, began = self.usage(), time.perf_counter()
        time.sleep(seconds)
        used, took = self.usage().since(before), time.perf_counter() - began
        return Usage(*(value / took for value in astuple(used)))

    def memory(self) -> tuple[float, float]:
        """Bytes of all workers and their parent, shared pages counted once; and bytes of a worker alone."""
        unshared = [process.memory_full_info().uss for process in self._workers]
        return self._parent.memory_info().rss + sum(unshared), sum(unshared) / max(1, len(unshared))


@contextmanager
def open_simulation(reduction: Reduction, patience: float) -> Iterator[Simulation]:
    """Start a scheduler, and prepare to start workers; end them all at the end.

    Args:
        reduction: How gradients are combined.
        patience: Seconds without a heartbeat after which a gang goes on without a worker.

    Raises:
        RunError: The scheduler doesn't start in time.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK_SETTINGS | QUIET))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inherited = {"DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(dask.config.global_config)}
        scheduler = stack.enter_context(_process(_scheduler_command(folder / "scheduler.json"), folder, inherited))
        stack.callback(scheduler.kill)  # by then it has no workers or clients
        address = _address(folder / "scheduler.json", scheduler)
        set_before = {
            name: str(value) for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items()
        }
        herd_command = [sys.executable, "-m", "fanfold.workflows.benchmark.scale.herd", address, *IMPORTS]
        herd = stack.enter_context(_process(herd_command, folder, inherited | set_before | WORKER_ENVIRONMENT))
        client = stack.enter_context(Client(address, timeout=STARTING))
        write_noise(folder / "noise.zarr")
        cluster = Cluster(client, "cpu", reduction=reduction, patience=patience)
        yield Simulation(cluster, scheduler, herd, folder / "noise.zarr")


def _scheduler_command(file: Path) -> list[str]:
    here = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    written = ["--scheduler-file", str(file), "--idle-timeout", ABANDONED]
    return [sys.executable, "-m", "distributed.cli.dask_scheduler", *here, *written]


@contextmanager
def _process(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that writes nothing to the terminal, and is ended at the end."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(file: Path, scheduler: "subprocess.Popen[bytes]") -> str:
    """The scheduler's address, from the file that it writes when it has started."""
    began = time.monotonic()
    while time.monotonic() - began < STARTING and scheduler.poll() is None:
        if file.exists() and (content := file.read_text()):
            address: str = json.loads(content)["address"]
            return address
        time.sleep(0.05)
    raise RunError("The simulation's scheduler doesn't start.")


def seconds_of_cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and its threads, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)


def bytes_over_loopback() -> float:
    """Bytes sent over the loopback interface since the machine started; nan if none of a known name exists."""
    counters = psutil.net_io_counters(pernic=True)
    return next((float(counters[name].bytes_sent) for name in ("lo", "lo0") if name in counters), math.nan)
