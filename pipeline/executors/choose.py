"""Which executor computes a run's windows: graphs of Dask's tasks, gangs of workers, or whichever suits the chunks."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.config import UNENCRYPTED
from fanfold.pipeline.events import Listener, ReductionPicked
from fanfold.pipeline.executors.base import Executor, Result, Window
from fanfold.pipeline.executors.gang import GangExecutor, NoGangError
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.fold import levels, owners_of
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe

Picked = Literal["graph", "collective"]

# Seconds that a graph takes beside its chunks: an iteration, and a task. `benchmarks/reduction.py` measures them.
ITERATION_SECONDS, TASK_SECONDS = 0.012, 0.002
MEASURED = 3  # windows that are measured before the choice
WORTH = 0.02  # share of an iteration that a gang must save: a graph is kinder to workers that come and go


def open_executor(cluster: Cluster, recipe: Recipe, run: str, tell: Listener) -> Executor:
    """The executor of a run's windows, as the cluster's `reduction` says.

    Args:
        cluster: The cluster.
        recipe: What the run's numbers depend on.
        run: The run's identifier.
        tell: Told what was chosen, and which workers were lost.
    """
    graph = GraphExecutor(cluster, recipe, run, tell)
    # `auto` begins with gangs, whose windows it measures.
    tell(ReductionPicked("graph" if cluster.reduction == "graph" else "collective", None))
    if cluster.reduction == "graph":
        return graph
    if any(address.startswith("tls:") for address in cluster.addresses):
        if cluster.reduction == "collective":
            raise FanfoldError(UNENCRYPTED)
        tell(ReductionPicked("graph", "what a gang exchanges would not be encrypted, as all else here is"))
        return graph
    gang = GangExecutor(cluster, recipe, run, tell)
    return gang if cluster.reduction == "collective" else AutoExecutor(gang, graph, len(recipe.meta.chunks()), tell)


class AutoExecutor(Executor):
    """Has gangs compute a run's first windows, and by the time of their chunks picks what computes the others."""

    def __init__(self, gang: Executor, graph: Executor, chunks: int, tell: Listener) -> None:
        self._gang, self._graph, self._chunks, self._tell = gang, graph, chunks, tell
        self._picked: Picked | None = None
        self._measured: list[tuple[float, ...]] = []  # seconds of a chunk by rank, window by window
        self._paces: list[float] = []  # seconds of an iteration, likewise

    def window(self, state: State, iterations: int) -> Window:
        if self._picked == "graph":
            return self._graph.window(state, iterations)
        began = time.monotonic()
        try:
            window = self._gang.window(state, iterations)
        except NoGangError as error:
            self._pick("graph", error.why)
            return self._graph.window(state, iterations)
        if self._picked is None:
            self._measure(window.seconds, (time.monotonic() - began) / iterations)
        return window

    def map(
        self, name: str, function: Callable[..., Result], shared: Sequence[Any], chunks: Sequence[tuple[int, ...]]
    ) -> list[Result]:
        return self._graph.map(name, function, shared, chunks)

    def close(self) -> None:
        self._gang.close()

    def _measure(self, seconds: tuple[float, ...], pace: float) -> None:
        """Keep a window's seconds, and pick when there are enough of one gang."""
        if self._measured and len(seconds) != len(self._measured[0]):
            self._measured, self._paces = [], []
        self._measured.append(seconds)
        self._paces.append(pace)
        if len(self._measured) == MEASURED:
            # The best of each worker: it warms up in the first window, and may be disturbed in any.
            best = [min(times) for times in zip(*self._measured, strict=True)]
            self._pick(*pick(self._chunks, best, min(self._paces)))

    def _pick(self, picked: Picked, why: str) -> None:
        self._picked = picked
        self._tell(ReductionPicked(picked, why))
        if picked == "graph":
            self._gang.close()


def pick(chunks: int, seconds: Sequence[float], paced: float = 0.0) -> tuple[Picked, str]:
    """Pick by the seconds of a chunk, by rank (0 for a rank without chunks), and say why.

    In a gang every worker computes its own chunks. In a graph whichever worker is free takes the next chunk, but every
    task costs time. `paced` are the seconds that a gang's iteration took: what they exceed its chunks by is the way
    between workers, which a graph goes more often, as adapt, fold and step each wait for what was computed elsewhere.
    """
    known = statistics.median([value for value in seconds if value])
    pace = [value or known for value in seconds]
    owners = owners_of(chunks, len(pace))
    gang = max(owners.count(rank) * value for rank, value in enumerate(pace))
    between = max(0.0, paced - gang)
    free = [0.0] * len(pace)  # when each worker is free again; a chunk goes to whoever ends it first
    for _ in range(chunks):
        first = min(range(len(pace)), key=lambda rank: free[rank] + pace[rank])
        free[first] += pace[first]
    tasks = chunks + sum(len(level) for level in levels(chunks)) + 1
    graph = max(free) + ITERATION_SECONDS + TASK_SECONDS * tasks + 2 * between
    gang += between
    by = f"{_in_words(gang)} an iteration by a gang, {_in_words(graph)} by a graph"
    return "collective" if gang <= (1 - WORTH) * graph else "graph", f"chunks take {_in_words(known)}: about {by}"


def _in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
