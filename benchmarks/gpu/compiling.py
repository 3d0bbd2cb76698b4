"""Kernels compiled before what they are measured in, by several processes at once.

Triton keeps what it compiles on the disk, where every process finds it. One after the other, the hundreds of kernels of
all sizes would take minutes.
"""

import time
from collections.abc import Iterator

import torch

from benchmarks.gpu import fanfold, meta_test
from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.pool import in_processes, processes
from benchmarks.gpu.settings import settings

Job = tuple[str, int, str]
"""A setting's name, or `meta-test`; tasks at a time; a set of kernels."""


def measure(options: Options) -> Iterator[Row]:
    """A row for each setting, number of tasks and set of kernels: how long it took."""
    jobs: list[Job] = [(name, *size) for name in settings(options) for size in fanfold.sizes(name, options)]
    jobs += [("meta-test", *size) for size in meta_test.sizes(options)]
    yield from in_processes(_compiled, jobs, options, processes(options))


def _compiled(job: Job, options: Options) -> Iterator[Row]:
    name, tasks, kernels = job
    yield attempt(options, {"what": name, "tasks": tasks, "kernels": kernels}, _seconds, *job)


def _seconds(name: str, tasks: int, kernels: str, options: Options) -> Row:
    """Of computing it once."""
    began = time.perf_counter()
    if name == "meta-test":
        meta_test.computation(tasks, kernels, meta_test.WAYS[-1], options)()
    else:
        compute, arguments = fanfold.computation(name, tasks, kernels, options)
        compute(*arguments)
    if options.on_cuda:
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - began}
