"""Results of tasks on a cluster, without waiting for ever."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Future, KilledWorker, wait

from fanfold.data.errors import RunError
from fanfold.pipeline.cluster.cluster import Cluster, talking_to_the_scheduler

Part = TypeVar("Part")

WITHOUT_WORKERS = 120.0  # seconds without any worker after which a run gives up
SLOW = 2.0  # seconds after which waiting is told of
STUCK = 6 * 3600.0  # seconds without a result after which working workers are given up
FETCH = 600.0  # seconds within which results come from workers
POLL_SECONDS = 30.0  # between checks whether there still are workers


def results(cluster: Cluster, graphs: list[Any], slow: Callable[[], None] | None = None) -> list[Any]:
    """Compute graphs on a cluster, and wait for their results.

    Dask computes the tasks of a lost worker again, and waits for ever for new workers; this gives up after a while.

    Args:
        cluster: The cluster.
        graphs: The graphs.
        slow: Called where the results take longer than `SLOW`.

    Raises:
        RunError: There were no workers for a while, workers died over a task, or the scheduler is gone.
        Exception: The error of a task.
    """
    with talking_to_the_scheduler(), cluster.labelled():
        futures = cluster.client.compute(graphs, optimize_graph=False)
        if slow is not None:
            try:
                wait(futures, timeout=SLOW)
            except TimeoutError:
                slow()
    return gathered(cluster, futures)


def in_order(
    cluster: Cluster, name: str, parts: Iterable[Part], call: Callable[[Part], tuple[Any, ...]], most: int
) -> Generator[tuple[Part, Any]]:
    """Have workers compute a function of each of many parts; each part comes with its result, in order.

    Args:
        cluster: The cluster.
        name: What Dask's pages call the tasks.
        parts: The parts, taken as workers come to them.
        call: The function for a part, and its arguments.
        most: How many tasks are under way at a time, so that nobody holds more results than that.

    Raises, while it computes:
        RunError: As in `results`.
        Exception: The error of a task.
    """
    run, waiting = uuid4().hex[:8], deque[tuple[Part, "Future[Any]"]]()

    def oldest() -> tuple[Part, Any]:
        part, future = waiting[0]
        found = gathered(cluster, [future])[0]
        waiting.popleft()
        return part, found

    try:
        for number, part in enumerate(parts):
            function, *arguments = call(part)
            with talking_to_the_scheduler(), cluster.labelled():
                future = cluster.client.submit(function, *arguments, key=(f"{name}-{run}", number), pure=False)
            waiting.append((part, future))
            if len(waiting) > most:
                yield oldest()
        while waiting:
            yield oldest()
    finally:  # nothing is computed any more where nobody takes it
        with suppress(Exception):
            cluster.client.cancel([future for _, future in waiting])


def gathered(cluster: Cluster, futures: "list[Future[Any]]") -> list[Any]:
    """Wait for futures, and fetch their results; errors are those of `results`."""
    with talking_to_the_scheduler():
        _wait(cluster, futures)
    for future in futures:
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                raise RunError(
                    f"Several workers died over task {error.task}: see their logs (out of memory?), and go on "
                    "with `resume`."
                ) from error
            raise error
    with talking_to_the_scheduler():
        try:
            found: list[Any] = cluster.client.sync(cluster.client._gather, futures, callback_timeout=FETCH)
        except TimeoutError as error:
            raise RunError(
                f"Workers haven't sent their results within {FETCH:.0f} s: they are stopped or cut off. Go on with "
                "`resume`."
            ) from error
    return found


def _wait(cluster: Cluster, futures: "list[Future[Any]]") -> None:
    seen = moved = time.monotonic()
    done = 0
    while True:
        try:
            wait(futures, timeout=POLL_SECONDS)
            return
        except TimeoutError:
            pass
        states, before, done = cluster.states, done, sum(future.done() for future in futures)
        if done > before:
            moved = time.monotonic()
        check_moving(moved)
        if "running" in states.values():
            seen = time.monotonic()
        elif time.monotonic() - seen > WITHOUT_WORKERS:
            raise without_workers(states)


def check_moving(since: float) -> None:
    """Raise RunError where nothing has been computed since a time of `time.monotonic`, and too long ago."""
    if time.monotonic() - since > STUCK:
        raise RunError(
            f"Nothing has come of the workers' tasks for {STUCK / 3600:.3g} h, though there are workers: look at what "
            "they compute (a model that never ends?), and go on with `resume`."
        )


def without_workers(states: Mapping[str, str]) -> RunError:
    """The error of a cluster that has had no worker for too long that takes tasks; from its workers' states."""
    if "paused" in states.values():
        return RunError(
            f"All workers have been paused for {WITHOUT_WORKERS:.0f} s, as Dask does near their memory limit: start "
            "them with more (`dask worker --memory-limit`), and go on with `resume`."
        )
    return RunError(f"There has been no worker for {WITHOUT_WORKERS:.0f} s: start workers, and go on with `resume`.")
