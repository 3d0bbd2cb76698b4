"""Simulated workers as processes: `python -m workflows.benchmark.scale.herd SCHEDULER [MODULE …]`.

Real Dask workers of one thread, without nannies. They are forked from this process after its imports, so they share
memory. Each line of standard input is the number of workers to have; when standard input closes, also because the
parent process is gone, all workers are ended.
"""

import asyncio
import gc
import importlib
import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkProcess

from distributed import Worker


def main(scheduler: str, modules: Sequence[str]) -> None:
    """See the module."""
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # otherwise a worker's garbage collector would write to shared pages and so copy them
    context = multiprocessing.get_context("fork")
    herd: list[ForkProcess] = []
    for line in sys.stdin:
        while len(herd) < int(line):
            herd.append(context.Process(target=_work, args=(scheduler,), daemon=True))
            herd[-1].start()
    for process in herd:
        process.kill()


def _work(scheduler: str) -> None:
    asyncio.run(_serve(scheduler))


async def _serve(scheduler: str) -> None:
    async with Worker(scheduler, nthreads=1, memory_limit=0, dashboard=False, host="127.0.0.1") as worker:
        await worker.finished()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
