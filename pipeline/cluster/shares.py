"""Several runs on one cluster at once, each with its own share of the workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

from fanfold.pipeline.cluster.cluster import Cluster


class Shares:
    """Divides a cluster's workers evenly among the runs under way, anew whenever one begins or ends.

    A share says where a run's chunks are to be computed first; a worker with nothing to do still helps the others.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._running: list[object] = []
        self._lock = Lock()

    @contextmanager
    def one(self) -> Iterator[Cluster]:
        """The cluster as one of the runs sees it, as long as it is under way."""
        run = object()
        with self._lock:
            self._running.append(run)
        try:
            yield replace(self._cluster, chosen=lambda workers: self._of(run, workers))
        finally:
            with self._lock:
                self._running.remove(run)

    def _of(self, run: object, workers: list[str]) -> list[str]:
        with self._lock:
            place, runs = self._running.index(run), len(self._running)
        if 0 < len(workers) < runs:
            return [workers[place % len(workers)]]
        return workers[place * len(workers) // runs : (place + 1) * len(workers) // runs]
