"""Several runs at once on one cluster, each with its share of the workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

from fanfold.pipeline.cluster.cluster import Cluster


class Shares:
    """Divides a cluster's workers evenly among the present runs, again whenever one begins or ends.

    A run's chunks go to its share first; idle workers still help other runs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._running: list[object] = []
        self._lock = Lock()

    @contextmanager
    def one(self) -> Iterator[Cluster]:
        """The cluster with one run's share, for the length of the run."""
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
