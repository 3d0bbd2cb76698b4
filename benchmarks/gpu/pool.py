"""Jobs in several processes at once, for what is bound by the CPU: compiling kernels, gradients in float64."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.gpu.options import Options, Row

PROCESSES = 8  # at most, which share a device's memory
CORES_EACH = 2


def processes(options: Options) -> int:
    """How many processes jobs are given to: one in a rehearsal."""
    cores = os.cpu_count() or 1
    return max(1, min(PROCESSES, cores // CORES_EACH)) if options.on_cuda else 1


def in_processes(
    rows_of: Callable[[Any, Options], Iterable[Row]], jobs: Sequence[Any], options: Options, count: int
) -> Iterator[Row]:
    """The rows of jobs, in the jobs' order.

    Args:
        rows_of: The rows of a job; a function of a module.
        jobs: What can be pickled.
        options: See `Options`.
        count: How many processes compute them; this one does where it is one.
    """
    if count == 1:
        for job in jobs:
            yield from rows_of(job, options)
        return
    with ProcessPoolExecutor(count, get_context("spawn"), torch.set_num_threads, (CORES_EACH,)) as executor:
        for rows in executor.map(partial(_all, rows_of), jobs, repeat(options)):
            yield from rows


def _all(rows_of: Callable[[Any, Options], Iterable[Row]], job: Any, options: Options) -> list[Row]:
    rows = list(rows_of(job, options))
    torch.cuda.empty_cache()
    return rows
