"""A worker's environment: how its allocator keeps memory, and in which order CUDA numbers GPUs; its profile is bounded.

Workers that Fanfold starts have it. Those started otherwise get it from this preload of Dask's:

    dask worker SCHEDULER --nthreads 1 --preload fanfold.pipeline.cluster.preload

or, whatever starts them, from Dask's configuration `distributed.worker.preload`, which is the environment's
`DASK_DISTRIBUTED__WORKER__PRELOAD`. It imports no PyTorch.
"""

import ctypes
import os
import sys
from collections import deque

from distributed import Worker

MODULE = __name__

# Chunks allocate and free the same tens of megabytes repeatedly. By default Dask makes the allocator return memory at
# once (MALLOC_TRIM_THRESHOLD_ of 64 KiB), so every page faults again: less than half the speed. Tasks run outside the
# main thread, for which glibc would use another arena, which ignores these settings for blocks above 64 MiB: an episode
# of 360 images then takes nearly twice as long.
WORKER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
# glibc's `mallopt` takes the same settings by number, from malloc.h.
_PARAMETERS = {
    "MALLOC_ARENA_MAX": -8,
    "MALLOC_TRIM_THRESHOLD_": -1,
    "MALLOC_MMAP_THRESHOLD_": -3,
    "MALLOC_TOP_PAD_": -2,
}

# A worker keeps a tree of what it computes, twice, for every second, and by default for a thousand of them: by that its
# memory grew by 7 MiB a minute.
HISTORY = 100

_kept: set[str] = set()  # settings made in this process


def dask_setup(worker: Worker) -> None:
    """Set a worker up. Called by Dask, before the worker computes anything."""
    keep_memory()
    worker.profile_history, worker.profile_keys_history = deque(maxlen=HISTORY), deque(maxlen=HISTORY)
    # NVML numbers GPUs in this order, and so does dask-cuda; CUDA's default order may differ.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def keep_memory() -> None:
    """Let this process's allocator keep memory. The environment's settings are read once, where a process begins."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        _kept.update(name for name, number in _PARAMETERS.items() if mallopt(number, int(WORKER_ENVIRONMENT[name])))


def keeps_memory() -> bool:
    """Whether this process's allocator keeps memory, or has no such settings, as on macOS."""
    if sys.platform != "linux":
        return True
    return all(name in _kept or os.environ.get(name) == value for name, value in WORKER_ENVIRONMENT.items())
