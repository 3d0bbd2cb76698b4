"""Asking the cluster, and waiting for it, without waiting for ever."""

import time
from typing import Any

from distributed import Future, KilledWorker, wait

from fanfold.data.errors import RunError
from fanfold.pipeline.cluster.cluster import Cluster, talking_to_the_scheduler

WITHOUT_WORKERS = 120.0  # seconds that a cluster may be without any worker before a run gives up
POLL_SECONDS = 30.0  # between checks whether there still are workers


def results(cluster: Cluster, graphs: list[Any]) -> list[Any]:
    """Have Dask compute some values, and wait for them.

    A task that is lost with its worker is computed again; Dask waits for ever for workers, this gives up in the end.

    Raises:
        RunError: No worker has been there for a while, workers died over a task, or the scheduler is gone.
        Exception: What a task raised.
    """
    with talking_to_the_scheduler(), cluster.labelled():
        futures = cluster.client.compute(graphs, optimize_graph=False)
        _wait(cluster, futures)
    for future in futures:
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                raise RunError(
                    f"Workers died again and again over task {error.task}: see their logs (out of memory?), and go on "
                    "with `resume`."
                ) from error
            raise error
    with talking_to_the_scheduler():
        gathered: list[Any] = cluster.client.gather(futures)
    return gathered


def _wait(cluster: Cluster, futures: "list[Future[Any]]") -> None:
    seen = time.monotonic()
    while True:
        try:
            wait(futures, timeout=POLL_SECONDS)
            return
        except TimeoutError:
            pass
        if cluster.workers:
            seen = time.monotonic()
        elif time.monotonic() - seen > WITHOUT_WORKERS:
            raise without_workers()


def without_workers() -> RunError:
    """What to raise when no worker has been there for too long."""
    return RunError(f"No worker has been there for {WITHOUT_WORKERS:.0f} s: start workers, and go on with `resume`.")
