"""Workers on this machine: processes that Dask starts, and a scheduler for them."""

import contextlib
import socket
from collections.abc import Sequence
from typing import Literal

import dask
from distributed import LocalCluster

from fanfold.data.errors import FanfoldError

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

Protocol = Literal["tcp", "ucx"]


def cpu_workers(workers: int | None, protocol: Protocol, dashboard: str) -> LocalCluster:
    """A cluster of some workers; None for one a core. Closed, it ends them.

    Args:
        workers: How many.
        protocol: What they talk over.
        dashboard: The dashboard's address, `host:port` or `:port`.

    Raises:
        FanfoldError: The dashboard's address is none.
    """
    # Dask would watch the GPU that CUDA_VISIBLE_DEVICES names first, and fail where it names none.
    with _spawning(), dask.config.set({"distributed.diagnostics.nvml": False}):
        return LocalCluster(
            n_workers=workers or dask.system.CPU_COUNT,
            threads_per_worker=1,
            processes=True,
            protocol=_protocol(protocol),
            dashboard_address=_free_dashboard(dashboard),
        )


def gpu_workers(gpus: Sequence[int | str], workers: int, protocol: Protocol, dashboard: str) -> LocalCluster:
    """A cluster of some workers on GPUs, which take the GPUs in turn. Closed, it ends them.

    Args:
        gpus: The GPUs as `find_gpus` names them.
        workers: How many, which may be more than GPUs.
        protocol: What they talk over.
        dashboard: The dashboard's address, `host:port` or `:port`.

    Raises:
        FanfoldError: The dashboard's address is none.
        Exception: Whatever dask-cuda or the driver finds wrong.
    """
    from fanfold.pipeline.cluster.gpu_cluster import (
        GpuCluster,  # only here: dask-cuda can't be imported on every machine
    )

    with _spawning():
        cluster: LocalCluster = GpuCluster(
            CUDA_VISIBLE_DEVICES=list(gpus[:workers]),
            n_workers=workers,
            threads_per_worker=1,
            protocol=_protocol(protocol),
            dashboard_address=_free_dashboard(dashboard),
            # Dask holds some float32 vectors in host memory, and nothing on a device: PyTorch does, by an allocator of
            # its own, which a pool of RMM's would only take memory from. So there is nothing to spill, and a limit of
            # host memory would pause or restart workers for the gigabytes that CUDA's libraries take in each.
            device_memory_limit=None,
            memory_limit=None,
        )
    return cluster


def _spawning() -> contextlib.AbstractContextManager[None]:
    """Workers that are started meanwhile have our environment from the start: the allocator reads it once.

    Those on GPUs too, which draw and gather their tasks' images on the CPU.
    """
    environment = dask.config.get("distributed.nanny.pre-spawn-environ") | WORKER_ENVIRONMENT
    setting: contextlib.AbstractContextManager[None] = dask.config.set(
        {"distributed.nanny.pre-spawn-environ": environment}
    )
    return setting


def _protocol(protocol: Protocol) -> str | None:
    """What Dask is told: nothing for TCP, as it may have been configured to take TLS.

    For UCX, dask-cuda has every process make a CUDA context, the scheduler's too.
    """
    return None if protocol == "tcp" else protocol


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
            raise FanfoldError(f"`cluster.dashboard` must be host:port or :port, not '{address}'.") from error
    return address
