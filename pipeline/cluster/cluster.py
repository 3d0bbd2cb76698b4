"""The Dask cluster of a run."""

import asyncio
import contextlib
import importlib.util
import logging
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import dask
from dask.base import annotate, get_annotations
from distributed import Client, LocalCluster, Security, Worker, WorkerPlugin, span
from distributed.client import AllExit, ClosedClientError
from distributed.core import rpc

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline.cluster import preload
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.gpus import Hardware, common, find_gpus, in_words, probe_device
from fanfold.pipeline.cluster.joining import ask_workers, check_versions, register
from fanfold.pipeline.cluster.local import cpu_workers, gpu_workers
from fanfold.pipeline.cluster.preload import keeps_memory
from fanfold.pipeline.cluster.tls import KEYS, open_to_all, refusal, security_of, temporary_security

DASK_SETTINGS = {
    # Every window's graph holds a state of some megabytes on purpose.
    "distributed.admin.large-graph-warning-threshold": "1GB",
    # Dask samples each worker's stack a hundred times a second by default, which costs 3 % of a CPU worker.
    "distributed.worker.profile.interval": "1s",
    # Its other periodic checks took 6.8 % of a core on an idle cluster of two workers; at these intervals, 1.5 %.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "1s",
    "distributed.worker.memory.monitor-interval": "500ms",
    # Each connection keeps that many of its last messages for Dask's developers, 1,000 by default: those about a gang's
    # window hold numbers of every iteration. A worker keeps as many of its profile's trees, and each process two hours
    # of its load by default.
    "distributed.admin.low-level-log-length": preload.HISTORY,
    "distributed.admin.system-monitor.log-length": 600,
    # Dask gives a worker of this machine up whose next process takes longer to start, 15 s by default.
    "distributed.deploy.lost-worker-timeout": "1h",
}


ANSWER = 120.0  # seconds within which a scheduler answers, or workers do that only look at themselves


@contextlib.contextmanager
def talking_to_the_scheduler() -> Iterator[None]:
    """Turn the errors of a lost scheduler into a RunError. A task's error must not pass through here."""
    try:
        yield
    except TimeoutError as error:
        raise RunError(
            f"The scheduler hasn't answered for {ANSWER:.0f} s: it is stopped or cut off. Start it again, and "
            "go on with `resume`."
        ) from error
    except (CancelledError, OSError, ClosedClientError) as error:
        reason = type(error).__name__  # its message has several lines
        raise RunError(f"The scheduler is gone ({reason}): start it again, and go on with `resume`.") from error


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    client: Client  # the driver's connection to the scheduler
    device: Literal["cpu", "cuda"]  # the workers' device
    gpus: tuple[str, ...] = ()  # the models of the workers' GPUs, one for each GPU
    note: str | None = None  # for the user, a line each
    joined: bool = False  # others started its workers
    chosen: Callable[[list[str]], list[str]] = list  # picks the workers that a run prefers
    reduction: Literal["auto", "graph", "collective"] = ClusterConfig.reduction
    patience: float = ClusterConfig.patience
    nccl: bool = ClusterConfig.nccl
    span: Mapping[str, tuple[str, ...]] | None = None  # the part of the work on Dask's pages, see `part`

    def asked(self, question: str) -> Any:
        """The scheduler's answer to a question of Dask's protocol, such as `identity`.

        Raises:
            RunError: It is gone, or doesn't answer.
        """
        with talking_to_the_scheduler():
            if not self.reachable:  # Dask would try to connect for half a minute
                raise ClosedClientError
            return self.client.sync(getattr(self.client.scheduler, question), callback_timeout=ANSWER)

    @property
    def reachable(self) -> bool:
        """Whether the connection to the scheduler stands. Once it is lost, so is all that was asked for."""
        return bool(self.client.status == "running")

    @property
    def present(self) -> list[str]:
        """The addresses of all present workers, sorted."""
        return sorted(self.asked("ncores"))

    @property
    def addresses(self) -> list[str]:
        """The addresses of the present workers that the run prefers, sorted."""
        return self.chosen(self.present)

    @property
    def states(self) -> dict[str, str]:
        """The state of each present worker, in Dask's words; only those that are `running` take tasks."""
        found = self.asked("identity")["workers"]
        return {address: str(worker["status"]) for address, worker in found.items()}

    @property
    def workers(self) -> int:
        """The number of present workers."""
        return len(self.addresses)

    @property
    def hardware(self) -> str:
        """The workers' hardware in words."""
        return f"{self.device}: {in_words(self.gpus)}" if self.gpus else self.device

    @property
    def dashboard(self) -> str:
        """The dashboard's address."""
        return str(self.client.dashboard_link)

    def part(self, *names: str) -> "Cluster":
        """The same cluster for a part of the work: a span on Dask's pages, nested by its names.

        All uses of it share one span. `distributed.span` makes a new one at each opening, and the scheduler keeps all.
        """
        with self.labelled(), span(*names):
            return replace(self, span=get_annotations()["span"])

    def labelled(self) -> contextlib.AbstractContextManager[None]:
        """A context whose tasks belong to this part of the work."""
        return annotate(span=self.span) if self.span else contextlib.nullcontext()


TOLD_AFTER = 2.0  # seconds of waiting for workers before a line says so

_LOG = logging.getLogger(__name__)


class QuietWorker(WorkerPlugin):
    """Silences workers that share a terminal with their driver, which reports errors in one line."""

    name = "fanfold-quiet"

    def setup(self, worker: Worker) -> None:
        """Drop the tracebacks of failed tasks and of closing connections; leave Ctrl-C to the driver."""
        logging.getLogger("distributed.worker").addFilter(lambda record: record.levelno < logging.ERROR)
        logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)
        logging.getLogger("fanfold.tasks.derivatives.numba_ops.compiled").setLevel(logging.ERROR)  # the driver tells
        with contextlib.suppress(ValueError):  # outside the main thread, which no Ctrl-C reaches
            signal.signal(signal.SIGINT, signal.SIG_IGN)


class _NoGpuError(Exception):
    """The GPUs of this machine can't be used; the message says why."""


@contextlib.contextmanager
def open_cluster(config: ClusterConfig) -> Iterator[Cluster]:
    """Start or join a cluster; at the end leave it, and stop the processes that were started.

    Raises:
        FanfoldError: There is no GPU where one was asked for, or scheduler or workers don't answer in time.
    """
    _check_protocol(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_settings())
        if "://" in config.kind:
            yield _join(config, stack)
            return
        if config.kind == "cpu":
            yield _on_cpus(config, stack)
            return
        try:
            cluster = _on_gpus(config, stack)
        except _NoGpuError as error:
            why = str(error)
            if config.kind == "cuda":
                raise FanfoldError(f"{why[0].upper()}{why[1:]}: use `cluster.kind=cpu`.") from error
            cluster = _on_cpus(config, stack, f"{why}: computing on the CPU")
        yield cluster


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Dask's settings for a run, in which its client leaves it to us to say that a scheduler is lost."""
    loop, given_up = logging.getLogger("asyncio"), _GivenUp()
    loop.addFilter(given_up)
    try:
        # They log a lost connection with its traceback.
        with _silent("distributed.client"), _silent("distributed.batched"), dask.config.set(DASK_SETTINGS):
            yield
    finally:
        loop.removeFilter(given_up)


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """A block in which a logger says nothing below what is critical."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _GivenUp(logging.Filter):
    """Drops the tracebacks of results that nobody waits for any more, as they were lost on their way."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], AllExit))


def _check_protocol(config: ClusterConfig) -> None:
    """Raise FanfoldError where UCX is asked for and not installed; Dask gives a warning of five lines then."""
    asked = config.protocol == "ucx" or config.kind.startswith(("ucx://", "ucxx://"))
    if asked and importlib.util.find_spec("distributed_ucxx") is None:
        raise FanfoldError(
            "UCX needs a package that is not installed, distributed-ucxx-cu12 or -cu13 after the driver's CUDA: "
            "install it, or use tcp."
        )


Part = TypeVar("Part", Client, LocalCluster)


@contextlib.contextmanager
def _closed_slowly(part: Part) -> Iterator[Part]:
    """A client or cluster, closed at the end; a busy machine that closes it too slowly is no error."""
    part.__enter__()
    try:
        yield part
    finally:
        # It logs a time-out of Dask's own with its traceback.
        with _silent("tornado.application"), contextlib.suppress(TimeoutError):
            part.__exit__(None, None, None)


def _on_cpus(config: ClusterConfig, stack: contextlib.ExitStack, *notes: str) -> Cluster:
    """Workers on the cores of this machine."""
    started = cpu_workers(config.workers, config.protocol, config.dashboard, config.timeout, temporary_security(config))
    client = _connect(stack.enter_context(_closed_slowly(started)), config, stack)
    return _cluster(config, client, Hardware(), *notes)


def _on_gpus(config: ClusterConfig, stack: contextlib.ExitStack) -> Cluster:
    """Workers on the GPUs of this machine.

    Raises:
        _NoGpuError: There is no GPU that PyTorch can use.
        FanfoldError: More workers were asked for than the GPUs may carry.
    """
    gpus = find_gpus()
    if gpus.problem:
        raise _NoGpuError(gpus.problem)
    places = len(gpus.names) * config.per_gpu
    if config.workers is not None and config.workers > places:
        raise FanfoldError(
            f"`cluster.workers={config.workers}`, but the GPUs have places for {places}: raise `cluster.per_gpu` "
            f"({config.per_gpu}) to let more share one, or use `cluster.kind=cpu`."
        )
    with contextlib.ExitStack() as started_here:
        try:
            security = temporary_security(config)
            started = gpu_workers(
                gpus.names, config.workers or places, config.protocol, config.dashboard, config.timeout, security
            )
        except FanfoldError:
            raise
        except Exception as error:  # of dask-cuda or the driver, of any kind
            raise _NoGpuError(f"dask-cuda can't start workers on the GPU ({one_line(error)})") from error
        client = _connect(started_here.enter_context(_closed_slowly(started)), config, started_here)
        hardware = common(ask_workers(client, probe_device))
        if hardware.device == "cpu":
            raise _NoGpuError(hardware.problem or "the driver lists a GPU, but workers find none")
        stack.push(started_here.pop_all())
    return _cluster(config, client, hardware)


def _connect(started: LocalCluster, config: ClusterConfig, stack: contextlib.ExitStack) -> Client:
    client = stack.enter_context(_closed_slowly(Client(started, timeout=config.timeout)))
    register(client, QuietWorker(), QuietWorker.name)
    return client


def _cluster(config: ClusterConfig, client: Client, hardware: Hardware, *notes: str) -> Cluster:
    all_notes = [*notes, *hardware.notes]
    return Cluster(
        client,
        hardware.device,
        hardware.gpus,
        note="\n".join(all_notes) or None,
        reduction=config.reduction,
        patience=config.patience,
        nccl=config.nccl,
    )


def _join(config: ClusterConfig, stack: contextlib.ExitStack) -> Cluster:
    began, security = time.monotonic(), security_of(config)
    try:
        # Asked first: a client would wait for ever for a server that accepts the connection and stays silent.
        # In a thread, as a notebook's own has a loop that runs.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, asyncio.wait_for(_ask(config, security), config.timeout)).result()
        client = stack.enter_context(_closed_slowly(Client(config.kind, timeout=config.timeout, security=security)))
    except (OSError, ValueError, TypeError) as error:  # a time-out is an OSError
        if why := refusal(error):
            raise FanfoldError(f"No encrypted connection with {config.kind}: {why}. See {KEYS}.") from error
        waited = time.monotonic() - began
        raise FanfoldError(
            f"No scheduler answered at {config.kind} within {waited:.0f} s ({type(error).__name__}): start one "
            "with `dask scheduler`, or use `cluster.kind=cpu`."
        ) from error
    return _attach(client, config)


@contextlib.contextmanager
def join(client: Client, config: ClusterConfig) -> Iterator[Cluster]:
    """The cluster of a client that the caller opened, and closes.

    Raises:
        FanfoldError: Workers don't come in time, or scheduler or workers can't compute for Fanfold.
    """
    if client.asynchronous:
        raise FanfoldError("The client is asynchronous: hand over one that was made with asynchronous=False.")
    with _settings():
        yield _attach(client, config)


def _attach(client: Client, config: ClusterConfig) -> Cluster:
    """A cluster of workers that others started, once there are enough of them."""
    address, wanted = str(client.scheduler.address if client.scheduler else config.kind), config.workers or 1
    at_once = min(TOLD_AFTER, config.timeout)
    try:
        try:
            client.wait_for_workers(wanted, timeout=at_once)
        except TimeoutError:
            _LOG.warning("waiting for workers: %d of %d are at %s", len(client.nthreads()), wanted, address)
            client.wait_for_workers(wanted, timeout=max(config.timeout - at_once, 0.1))  # 0 would be for ever
    except TimeoutError as error:
        raise FanfoldError(
            f"The scheduler at {address} has {len(client.nthreads())} of {wanted} workers after "
            f"{config.timeout:g} s: start them with `dask worker {shlex.quote(address)} --nworkers N --nthreads 1 "
            f"--preload {preload.MODULE}`, or `dask cuda worker {shlex.quote(address)} --preload {preload.MODULE}`."
        ) from error
    if any(threads > 1 for threads in client.nthreads().values()):
        raise FanfoldError(
            f"Workers of {address} have several threads, but a chunk needs a whole worker: start them with "
            f"`dask worker {address} --nworkers N --nthreads 1`, or threads_per_worker=1."
        )
    check_versions(client)
    hardware = common(ask_workers(client, probe_device))
    notes = [f"{hardware.problem}: computing on the CPU"] if hardware.problem else []
    if note := open_to_all(address):
        notes.append(note)
    if note := _forgetful(client):
        notes.append(note)
    return replace(_cluster(config, client, hardware, *notes), joined=True)


def _forgetful(client: Client) -> str | None:
    """A note on workers that give memory back at once; None where there are none."""
    kept = ask_workers(client, keeps_memory).values()
    if all(kept):
        return None
    return (
        f"{list(kept).count(False)} of {len(kept)} workers give memory back at once, and get it again page by page, "
        f"which slows training on a CPU: start them with `--preload {preload.MODULE}`"
    )


async def _ask(config: ClusterConfig, security: Security) -> None:
    connection = security.get_connection_args("client")
    async with rpc(config.kind, timeout=config.timeout, connection_args=connection) as scheduler:
        await scheduler.identity()
