"""Preparing over a cluster: its workers read the pictures, and the driver writes them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeAlias
from uuid import uuid4

from distributed import Future

from fanfold.data.source import Found, Part, Source
from fanfold.data.writing import AHEAD, Reading, in_threads
from fanfold.pipeline.cluster.cluster import Cluster, talking_to_the_scheduler
from fanfold.pipeline.cluster.results import gathered

NAME = "read-pictures"
"""The tasks' name on Dask's pages, in a span `prepare`."""


Telling: TypeAlias = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Begins to tell of the reading of so many pictures: the context's function is told how many more are done."""


def over(cluster: Cluster, telling: Telling, notice: Callable[[str], None]) -> Reading:
    """What reads a source's pictures on the workers of a cluster.

    Workers see the files under the paths that they have here. Few batches are under way at a time, so neither workers
    nor the driver hold more of them, whatever the size of the data set. A source that only this process can read is
    read by its threads.

    Args:
        cluster: The cluster.
        telling: Tells of the progress.
        notice: Is told, in a line, where the workers don't read.

    Raises, while it reads:
        RunError: There were no workers for a while, or the scheduler is gone.
    """

    def reading(source: Source, batches: Iterable[Sequence[Part]]) -> Generator[list[Found]]:
        if source.portion([]) is None:
            notice(f"{source.dataset} is read by this process: workers read pictures of your own")
            yield from in_threads(source, batches)
            return
        with telling(sum(source.counts)) as done:
            for batch, found in _in_order(cluster.part("prepare"), source, batches):
                yield found
                done(sum(part.last - part.first for part in batch))

    return reading


def _in_order(
    cluster: Cluster, source: Source, batches: Iterable[Sequence[Part]]
) -> Generator[tuple[Sequence[Part], list[Found]]]:
    run, most = uuid4().hex[:8], AHEAD * cluster.workers
    waiting: deque[tuple[Sequence[Part], Future[Any]]] = deque()

    def oldest() -> tuple[Sequence[Part], list[Found]]:
        batch, future = waiting[0]
        found: list[Found] = gathered(cluster, [future])[0]
        waiting.popleft()
        return batch, found

    try:
        for number, batch in enumerate(batches):
            portion = source.portion(batch)
            assert portion is not None
            with talking_to_the_scheduler(), cluster.labelled():
                future = cluster.client.submit(portion, key=(f"{NAME}-{run}", number), pure=False)
            waiting.append((batch, future))
            if len(waiting) > most:
                yield oldest()
        while waiting:
            yield oldest()
    finally:  # nothing is read any more where writing ends
        with suppress(Exception):
            cluster.client.cancel([future for _, future in waiting])
