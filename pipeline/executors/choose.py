"""How a run's windows are computed: as a graph of Dask's tasks, by gangs of workers, or by whichever suits its chunks.

The numbers never depend on it: both fold the same sums in the same order, and take the same step.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

from fanfold.pipeline import worker as work
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.results import results
from fanfold.pipeline.events import Listener, ReductionPicked
from fanfold.pipeline.executors.gang import Gangs, NoGangError
from fanfold.pipeline.executors.gang_member import Window
from fanfold.pipeline.executors.graph import Adapt, share, window_graph
from fanfold.pipeline.fold import levels
from fanfold.pipeline.leg import Reduce
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe

Picked = Literal["graph", "collective"]

# What the graph takes beyond its chunks: seconds an iteration, and a task. `benchmarks/reduction.py` measures it.
ITERATION_SECONDS, TASK_SECONDS = 0.012, 0.002
MEASURED = 3  # windows that a choice is made by
WORTH = 0.02  # the share of an iteration that a gang must save: the graph is kinder to workers that come and go


@contextmanager
def open_reduction(cluster: Cluster, run: str, recipe: Recipe, tell: Listener) -> Iterator[Reduce]:
    """What computes a run's windows, as the cluster's `reduction` says.

    Args:
        cluster: The cluster.
        run: The run's identifier.
        recipe: What the run's numbers depend on.
        tell: Whom to tell what was chosen, and which workers were lost.
    """

    def graph(state: State, iterations: int, ahead: int = 0) -> State:
        return run_window(cluster, run, recipe, state, min(iterations, recipe.meta.longest_graph))

    # What `auto` picks, it picks by windows that gangs compute.
    tell(ReductionPicked("graph" if cluster.reduction == "graph" else "collective", None))
    if cluster.reduction == "graph":
        yield graph
        return
    if cluster.reduction == "auto" and any(address.startswith("tls:") for address in cluster.addresses):
        tell(ReductionPicked("graph", "what a gang exchanges would not be encrypted, as all else here is"))
        yield graph
        return
    with closing(Gangs(cluster, run, recipe, tell)) as gangs:
        if cluster.reduction == "collective":
            yield lambda state, iterations, ahead=0: gangs.window(state, iterations, ahead).state
        else:
            yield Auto(gangs, graph, len(recipe.meta.chunks()), tell)


def run_window(
    cluster: Cluster, run: str, recipe: Recipe, state: State, iterations: int, adapt: Adapt = work.adapt
) -> State:
    """Hand the scheduler a window's graph, and wait for the state at its end.

    Driver and scheduler say nothing to each other meanwhile, but for a look at the workers now and then in a long
    window; with the result taken, all of the window is released.
    """
    graph = window_graph(run, recipe, state, iterations, cluster.addresses, adapt)
    result: State = results(cluster, [graph])[0]
    return result


class Auto:
    """Has gangs compute a run's first windows, and by the time of their chunks picks what computes the others."""

    def __init__(self, gangs: Gangs, graph: Reduce, chunks: int, tell: Listener) -> None:
        self._gangs, self._graph, self._chunks, self._tell = gangs, graph, chunks, tell
        self._picked: Picked | None = None
        self._measured: list[Window] = []

    def __call__(self, state: State, iterations: int, ahead: int = 0) -> State:
        """See `Reduce`."""
        if self._picked == "graph":
            return self._graph(state, iterations)
        try:
            # Nothing is begun ahead that a graph may have to compute.
            window = self._gangs.window(state, iterations, ahead if self._picked else 0)
        except NoGangError as error:
            self._pick("graph", error.why)
            return self._graph(state, iterations)
        if self._picked is None:
            self._measure(window)
        return window.state

    def _measure(self, window: Window) -> None:
        """Look at a gang's window; pick when there are enough of one gang."""
        if self._measured and len(window.seconds) != len(self._measured[0].seconds):
            self._measured = []
        self._measured.append(window)
        if len(self._measured) == MEASURED:
            # The best of each worker: in the first window it warms up, and in any it may have been disturbed.
            best = [min(times) for times in zip(*(window.seconds for window in self._measured), strict=True)]
            self._pick(*pick(self._chunks, best))

    def _pick(self, picked: Picked, why: str) -> None:
        self._picked = picked
        self._tell(ReductionPicked(picked, why))
        if picked == "graph":
            self._gangs.close()


def pick(chunks: int, seconds: Sequence[float]) -> tuple[Picked, str]:
    """What suits some chunks, and why.

    A gang's worker always computes the same number of chunks; of a graph's, whichever is free takes the next one, but
    every task takes time of its own.

    Args:
        chunks: Chunks a meta-batch.
        seconds: Seconds a chunk by rank; nought for a rank without chunks.
    """
    known = statistics.median([value for value in seconds if value])
    pace = [value or known for value in seconds]
    owners = [share(place, chunks, len(pace)) for place in range(chunks)]
    gang = max(owners.count(rank) * value for rank, value in enumerate(pace))
    free = [0.0] * len(pace)  # when a worker would be free for one more chunk, given to who is through with it first
    for _ in range(chunks):
        first = min(range(len(pace)), key=lambda rank: free[rank] + pace[rank])
        free[first] += pace[first]
    tasks = chunks + sum(len(level) for level in levels(chunks)) + 1
    graph = max(free) + ITERATION_SECONDS + TASK_SECONDS * tasks
    by = f"{_in_words(gang)} an iteration by a gang, {_in_words(graph)} by a graph"
    return "collective" if gang <= (1 - WORTH) * graph else "graph", f"chunks take {_in_words(known)}: about {by}"


def _in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
