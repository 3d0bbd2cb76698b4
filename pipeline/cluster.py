"""The Dask cluster that a run is spread over."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import dask
import torch
from dask.base import annotate, get_annotations
from distributed import Client, LocalCluster, Security, Worker, WorkerPlugin, span
from distributed.client import ClosedClientError
from distributed.core import rpc

from data.errors import FanfoldError, RunError
from pipeline.dashboard.plugin import offer

# Chunks allocate and free the same tens of megabytes over and over. By default Dask makes the workers' allocator give
# memory back at once (MALLOC_TRIM_THRESHOLD_ of 64 KiB), and every page then faults again: less than half the speed.
# Tasks run beside the main thread, where glibc would use an arena of their own, which ignores these settings for blocks
# above 64 MiB: an episode of 360 images then takes nearly twice as long.
WORKER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}

DASK_SETTINGS = {
    # A state of some megabytes stands in every window's graph on purpose.
    "distributed.admin.large-graph-warning-threshold": "1GB",
    # Dask looks at each worker's stack a hundred times a second for its profile, which costs 3 % of a CPU worker.
    "distributed.worker.profile.interval": "1s",
    # Its other looks at itself, some dozen a second in every process, took 6.8 % of a core of an idle cluster of two
    # workers; so seldom, 1.5 %.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "1s",
    "distributed.worker.memory.monitor-interval": "500ms",
}


@dataclass(frozen=True)
class ClusterConfig:
    """Where the workers are.

    Args:
        kind: `cpu` for one process a core of this machine, `cuda` for one a GPU, `auto` for `cuda` where there is a
            GPU and `cpu` otherwise, or the address of a running scheduler (`tcp://…`, `tls://…`).
        workers: How many on this machine; default every core, or every GPU. With a scheduler's address: how many to
            wait for; default one.
        dashboard: Address of the dashboard, `host:port` or `:port`; port 0 for any free one.
        timeout: Seconds to wait for a scheduler and for workers.
        reduction: How chunks are brought together, which changes no number: `graph`, as tasks that any worker may
            take; `collective`, by a gang of workers that exchange gradients themselves, with less overhead; `auto`,
            whichever suits the time that a chunk takes.
        patience: Seconds without a sign of life after which a gang goes on without a worker.
    """

    kind: str = "auto"
    workers: int | None = None
    dashboard: str = ":8787"
    timeout: float = 60
    reduction: Literal["auto", "graph", "collective"] = "auto"
    patience: float = 10

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "cpu", "cuda") and "://" not in self.kind:
            raise FanfoldError(f"No cluster '{self.kind}': use auto, cpu, cuda or a scheduler's address (tcp://…).")
        if self.workers is not None and self.workers < 1:
            raise FanfoldError(f"--cluster.workers must be at least 1, not {self.workers}.")
        if not self.timeout > 0:
            raise FanfoldError(f"--cluster.timeout must be above 0, not {self.timeout:g}.")
        if self.reduction not in ("auto", "graph", "collective"):
            raise FanfoldError(f"No reduction '{self.reduction}': use auto, graph or collective.")
        if not self.patience >= 2:  # workers give a sign of life every half second, those of large clusters less often
            raise FanfoldError(f"--cluster.patience must be at least 2 seconds, not {self.patience:g}.")


@contextlib.contextmanager
def talking_to_the_scheduler() -> Iterator[None]:
    """Turn a lost scheduler into a RunError. No task's own error may pass through here."""
    try:
        yield
    except (CancelledError, OSError, ClosedClientError) as error:
        reason = type(error).__name__  # the message itself takes several lines
        raise RunError(f"The scheduler is gone ({reason}): start it again, and go on with --resume.") from error


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up.

    Args:
        client: The driver's connection to the scheduler.
        device: Where its workers compute, `cpu` or `cuda`.
        note: What is worth telling about it, a line each, if anything is.
        chosen: Which of its workers a run prefers; default all.
        reduction: How chunks are brought together, see `ClusterConfig`.
        patience: Seconds without a sign of life after which a gang goes on without a worker.
        span: What Dask's pages call the part of the work that this stands for, see `part`; None for no part.
    """

    client: Client
    device: Literal["cpu", "cuda"]
    note: str | None = None
    chosen: Callable[[list[str]], list[str]] = list
    reduction: Literal["auto", "graph", "collective"] = ClusterConfig.reduction
    patience: float = ClusterConfig.patience
    span: Mapping[str, tuple[str, ...]] | None = None

    @property
    def addresses(self) -> list[str]:
        """The workers there are now, those that the run prefers, in the order of their addresses."""
        with talking_to_the_scheduler():
            return self.chosen(sorted(self.client.nthreads()))

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return len(self.addresses)

    @property
    def dashboard(self) -> str:
        """The dashboard's address."""
        return str(self.client.dashboard_link)

    def part(self, *names: str) -> "Cluster":
        """The same cluster for a part of the work, and a part of that, and so on: a span on Dask's pages.

        One span however often it is used, where `distributed.span` makes another each time it is opened; the
        scheduler keeps all of them.
        """
        with self.labelled(), span(*names):
            return replace(self, span=get_annotations()["span"])

    def labelled(self) -> contextlib.AbstractContextManager[None]:
        """What is handed to Dask meanwhile belongs to this part of the work."""
        return annotate(span=self.span) if self.span else contextlib.nullcontext()


class QuietWorker(WorkerPlugin):
    """Leaves it to the driver to say what went wrong, in one line, where driver and workers share a terminal."""

    name = "fanfold-quiet"

    def setup(self, worker: Worker) -> None:
        """Drop the tracebacks of failed tasks, which the driver gets too, and of goodbyes; leave Ctrl-C to it."""
        logging.getLogger("distributed.worker").addFilter(lambda record: record.levelno < logging.ERROR)
        logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)
        with contextlib.suppress(ValueError):  # not in the main thread: no Ctrl-C reaches it there
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def open_cluster(config: ClusterConfig) -> Iterator[Cluster]:
    """Start or join a cluster; leave it, and stop what was started, at the end.

    Raises:
        FanfoldError: No GPU where one was asked for, or no scheduler or too few workers answer within the bound.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK_SETTINGS))
        if "://" in config.kind:
            yield _join(config, stack)
            return
        gpus, note = gpu_count(), None
        kind = config.kind
        if kind == "auto":
            kind = "cuda" if gpus else "cpu"
            note = None if gpus else "no GPU found: computing on the CPU"
        if kind == "cuda":
            if not gpus:
                raise FanfoldError("No GPU found (PyTorch sees none): use --cluster.kind cpu.")
            if config.workers is not None and config.workers > gpus:
                raise FanfoldError(f"--cluster.workers {config.workers}, but there are {gpus} GPUs: one worker a GPU.")
            cluster = stack.enter_context(_unhurried(_cuda_cluster(config)))
        else:
            cluster = stack.enter_context(_unhurried(_cpu_cluster(config)))
        client = stack.enter_context(_unhurried(Client(cluster, timeout=config.timeout)))
        client.register_plugin(QuietWorker())
        device: Literal["cpu", "cuda"] = "cuda" if kind == "cuda" else "cpu"
        note = "\n".join(filter(None, (note, offer(client)))) or None
        yield Cluster(client, device, note, reduction=config.reduction, patience=config.patience)


Part = TypeVar("Part", Client, LocalCluster)


@contextlib.contextmanager
def _unhurried(part: Part) -> Iterator[Part]:
    """A part of a cluster, closed in the end; that a busy machine takes long over that is no failure of the work."""
    part.__enter__()
    try:
        yield part
    finally:
        with contextlib.suppress(TimeoutError):
            part.__exit__(None, None, None)


def gpu_count() -> int:
    """How many GPUs PyTorch can use, 0 without a driver."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cpu_cluster(config: ClusterConfig) -> LocalCluster:
    # The environment must be there before the worker's process starts: the allocator reads it once.
    environment = dask.config.get("distributed.nanny.pre-spawn-environ") | WORKER_ENVIRONMENT
    with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
        cluster: LocalCluster = LocalCluster(
            n_workers=config.workers or dask.system.CPU_COUNT,
            threads_per_worker=1,
            processes=True,
            dashboard_address=_free_dashboard(config.dashboard),
        )
    return cluster


def _cuda_cluster(config: ClusterConfig) -> LocalCluster:
    from dask_cuda import LocalCUDACluster  # only here: a machine without a GPU may do without it

    cluster: LocalCluster = LocalCUDACluster(
        n_workers=config.workers, threads_per_worker=1, dashboard_address=_free_dashboard(config.dashboard)
    )
    return cluster


def _join(config: ClusterConfig, stack: contextlib.ExitStack) -> Cluster:
    try:
        # Asked first: a client would wait for ever for the answer of something that accepts and says nothing.
        asyncio.run(asyncio.wait_for(_ask(config.kind), config.timeout))
        client = stack.enter_context(_unhurried(Client(config.kind, timeout=config.timeout)))
    except (OSError, ValueError, TypeError) as error:  # a time-out is an OSError, TLS without a key a TypeError
        raise FanfoldError(
            f"No scheduler answered at {config.kind} within {config.timeout:g} s ({type(error).__name__}): start one "
            "with `dask scheduler`, or use --cluster.kind cpu."
        ) from error
    wanted = config.workers or 1
    try:
        client.wait_for_workers(wanted, timeout=config.timeout)
    except TimeoutError as error:
        raise FanfoldError(
            f"The scheduler at {config.kind} has {len(client.nthreads())} of {wanted} workers after "
            f"{config.timeout:g} s: start them with `dask worker --nthreads 1 {config.kind}` or `dask cuda worker "
            f"{config.kind}`."
        ) from error
    if any(threads > 1 for threads in client.nthreads().values()):
        raise FanfoldError(
            f"Workers of {config.kind} have several threads, but a chunk takes all of a worker: start them with "
            "`dask worker --nthreads 1 --nworkers N`."
        )
    try:
        with_gpu = client.run(gpu_count)
    except ImportError as error:
        raise FanfoldError(f"Workers of {config.kind} can't import Fanfold ({error}): install it there.") from error
    device: Literal["cpu", "cuda"] = "cuda" if all(with_gpu.values()) else "cpu"
    return Cluster(client, device, offer(client), reduction=config.reduction, patience=config.patience)


async def _ask(address: str) -> None:
    async with rpc(address, connection_args=Security().get_connection_args("client")) as scheduler:
        await scheduler.identity()


def _free_dashboard(address: str) -> str:
    """The address asked for, or any free port where it is taken: a second run then needs no flag."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return f"{host}:0"
        except (ValueError, OverflowError) as error:
            raise FanfoldError(f"--cluster.dashboard must be host:port or :port, not '{address}'.") from error
    return address
