"""Preparing over a cluster: its workers read the pictures, and the driver writes them."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from fanfold.data.source import Found, Part, Source
from fanfold.data.writing import AHEAD, Reading, in_threads
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.results import in_order

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
            part, most = cluster.part("prepare"), AHEAD * cluster.workers
            for batch, found in in_order(part, NAME, batches, lambda batch: (source.portion(batch),), most):
                yield found
                done(sum(one.last - one.first for one in batch))

    return reading
