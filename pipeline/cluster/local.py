"""Workers on this machine: processes that Dask starts, and their scheduler."""

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import dask
from distributed import LocalCluster, Nanny, Security
from distributed.core import Status

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.interrupts import uninterrupted
from fanfold.pipeline.cluster.preload import WORKER_ENVIRONMENT

Protocol = Literal["tcp", "ucx"]


def cpu_workers(
    workers: int | None, protocol: Protocol, dashboard: str, timeout: float, security: Security | None = None
) -> LocalCluster:
    """A cluster of workers on CPUs, by default one a core. It ends them when it is closed.

    Raises:
        FanfoldError: The dashboard's address is malformed, or workers haven't started within `timeout` seconds.
    """
    # Dask would monitor the first GPU of CUDA_VISIBLE_DEVICES, and fail where that names none.
    with _spawning(), dask.config.set({"distributed.diagnostics.nvml": False}):
        return LocalCluster(
            n_workers=workers or dask.system.CPU_COUNT,
            worker_class=BoundedNanny,
            start_timeout=timeout,
            threads_per_worker=1,
            processes=True,
            protocol="tls" if security else _protocol(protocol),
            security=security,
            silence_logs=logging.ERROR,  # a busy machine that ends workers slowly is nobody's concern
            dashboard_address=_free_dashboard(dashboard),
        )


def gpu_workers(
    gpus: Sequence[int | str],
    workers: int,
    protocol: Protocol,
    dashboard: str,
    timeout: float,
    security: Security | None = None,
) -> LocalCluster:
    """A cluster of workers on GPUs, distributed evenly, also where there are more workers than GPUs.

    It ends them when it is closed.

    Raises:
        FanfoldError: The dashboard's address is malformed, or workers haven't started within `timeout` seconds.
        Exception: dask-cuda or the driver fails.
    """
    # Imported here: dask-cuda can't be imported on every machine.
    from fanfold.pipeline.cluster.gpu_cluster import GpuCluster

    with _spawning():
        cluster: LocalCluster = GpuCluster(
            CUDA_VISIBLE_DEVICES=list(gpus[:workers]),
            n_workers=workers,
            worker_class=BoundedNanny,
            start_timeout=timeout,
            threads_per_worker=1,
            protocol="tls" if security else _protocol(protocol),
            security=security,
            silence_logs=logging.ERROR,  # a busy machine that ends workers slowly is nobody's concern
            dashboard_address=_free_dashboard(dashboard),
            # Dask holds only float32 vectors in host memory. Device memory belongs to PyTorch's allocator, so there is
            # nothing to spill, and a pool of RMM's would only take memory away. A limit of host memory would pause or
            # restart workers for the gigabytes that CUDA's libraries take in each.
            device_memory_limit=None,
            memory_limit=None,
        )
    return cluster


class BoundedNanny(Nanny):
    """Starts worker processes within bounds of time, which don't import the driver's main script.

    They would run all of it again, where it has no `if __name__ == "__main__"`, and need nothing of it.
    """

    def __init__(self, *arguments: Any, start_timeout: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._start_timeout, self._late = start_timeout, False

    async def instantiate(self) -> Status:
        """Start the worker's process, the first one or the next; it is killed where that takes too long.

        A later process is followed by another one then.

        Raises:
            FanfoldError: The first one takes too long, or ends by itself.
        """
        # Dask's own bound, `death_timeout`, leaves a process that hangs, and a nanny that can't be closed.
        self._late, bound = False, asyncio.get_running_loop().call_later(self._start_timeout, self._give_up)
        try:
            with _without_main_script():
                status = await super().instantiate()
        finally:
            bound.cancel()
        if status != Status.running and self.status == Status.init:
            why = f"has not started within {self._start_timeout:g} s" if self._late else "ended while it started"
            raise FanfoldError(
                f"Worker {self.name} of this machine {why}: see what else the machine does, and what its workers "
                "import; raise `cluster.timeout`, or lower `cluster.workers`."
            )
        return status

    def _give_up(self) -> None:
        if self.process is not None and self.process.process is not None:
            self._late = True
            self.process.process.kill()


_hidden: dict[str, object] = {}  # attributes of the main module
_hiders = 0
_hiding = threading.Lock()


@contextlib.contextmanager
def _without_main_script() -> Iterator[None]:
    """A context in which `multiprocessing` finds no main script to import; several may overlap."""
    global _hiders
    main = vars(sys.modules["__main__"])
    with _hiding:
        _hiders += 1
        if _hiders == 1:
            _hidden.update({name: main[name] for name in ("__file__", "__spec__") if name in main})
            main.pop("__file__", None)
            main["__spec__"] = None
    try:
        yield
    finally:
        with _hiding:
            _hiders -= 1
            if not _hiders:
                main.update(_hidden)
                _hidden.clear()


@contextlib.contextmanager
def _spawning() -> Iterator[None]:
    """A context whose new workers start with `WORKER_ENVIRONMENT`: the allocator reads it once.

    Workers on GPUs need it too: they draw tasks and gather their images on the CPU.

    Raises:
        FanfoldError: That of a nanny whose worker doesn't start.
    """
    environment = dask.config.get("distributed.nanny.pre-spawn-environ") | WORKER_ENVIRONMENT
    with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}), uninterrupted():
        try:
            yield
        except RuntimeError as error:  # a nanny's, from its own
            if isinstance(error.__cause__, FanfoldError):
                raise error.__cause__ from error
            raise


def _protocol(protocol: Protocol) -> str | None:
    """The protocol for Dask: None for TCP, as Dask may be configured for TLS.

    With UCX, dask-cuda creates a CUDA context in every process, also in the scheduler's.
    """
    return None if protocol == "tcp" else protocol


def _free_dashboard(address: str) -> str:
    """The dashboard's address, with any free port where its own is taken: a second run needs no other setting.

    Without a host it is the loopback address: the dashboard has no password.
    """
    host, _, port = address.rpartition(":")
    host = host or "127.0.0.1"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            port = "0"
        except (ValueError, OverflowError) as error:
            raise FanfoldError(f"`cluster.dashboard` must be host:port or :port, not '{address}'.") from error
    return f"{host}:{port}"
