"""Simulated workers as processes: `python -m workflows.benchmark.scale.herd SCHEDULER [MODULE …]`.

True Dask workers of one thread, without a nanny each. All are forked from this process, which imports once what they
need, so that they share the memory. It reads from its standard input how many there shall be, a line a number; when
that is closed, as it is when whoever started this is gone, it ends them.
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
    gc.freeze()  # a worker that collects garbage would else write to what it shares, and so get a copy
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
