"""Windows and chunks as graphs of Dask's tasks.

    start ─┬─ adapt ─┐                ┌─ adapt ─┐
           ├─ adapt ─┼─ fold ─ step ──┼─ adapt ─┼─ fold ─ step …
           └─ adapt ─┘                └─ adapt ─┘

Chunks name their tasks by number, and get the window so far. The window's first state stands in the graph itself, so
that whatever a lost worker held can be computed again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.joining import hand_over
from fanfold.pipeline.cluster.results import results
from fanfold.pipeline.events import Listener, Noticed
from fanfold.pipeline.executors.base import Executor, Result, Window
from fanfold.pipeline.fold import ChunkSum, fold, levels, owners_of
from fanfold.pipeline.optimizer import State, step
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.backbones import objects_of

Key = tuple[str | int, ...]


class GraphExecutor(Executor):
    """Every chunk, fold and step is a task of Dask's, which any free worker may take.

    The run's identifier is part of every key, so that two runs on one scheduler never share a result.
    """

    def __init__(
        self, cluster: Cluster, recipe: Recipe, run: str | None = None, tell: Listener = lambda _: None
    ) -> None:
        self._cluster, self._recipe, self._run = cluster, recipe, run or uuid4().hex[:8]
        self._tell, self._seen = tell, set[str]()
        hand_over(cluster.client, objects_of(recipe.model))

    def window(self, state: State, iterations: int) -> Window:
        """Compute the window in graphs of at most `longest_graph` iterations.

        Driver and scheduler say nothing to each other while a graph is computed, but for a look at the workers now and
        then; with its result taken, all of it is released.
        """
        window, end = Window(state, ()), state.iteration + iterations
        while (left := end - window.state.iteration) > 0:
            length = min(left, self._recipe.meta.longest_graph)
            workers = self._cluster.chosen(self._present())
            graph = window_graph(self._run, self._recipe, window.state, length, workers)
            found: Window = results(self._cluster, [graph])[0]
            window = Window(found.state, window.records + found.records)
        return window

    def _present(self) -> list[str]:
        """The present workers; those that are gone since the last window are told."""
        present = self._cluster.present
        if lost := self._seen - set(present):
            verb, pronoun = ("is", "it") if len(lost) == 1 else ("are", "they")
            names = " and ".join(sorted(lost))
            self._tell(Noticed(f"{names} {verb} gone: what {pronoun} computed is computed again"))
        self._seen = set(present)
        return present

    def map(
        self, name: str, function: Callable[..., Result], shared: Sequence[Any], chunks: Sequence[tuple[int, ...]]
    ) -> list[Result]:
        graph = map_graph(name, uuid4().hex[:8], function, shared, chunks, self._cluster.addresses)
        return results(self._cluster, graph)


def window_graph(run: str, recipe: Recipe, state: State, iterations: int, workers: Sequence[str] = ()) -> Delayed:
    """The next meta-iterations. The chunks are spread over the workers, but any worker may take any chunk."""
    # Bound to the functions, the recipe stands in no task's arguments, which Dask would search for keys.
    compute, advance = partial(_adapt, recipe), partial(_step, recipe)
    chunks = recipe.meta.chunks()
    now: Key = (f"start-{run}", state.iteration)
    tasks: dict[Key, Any] = {now: Window(state, ())}
    for iteration in range(state.iteration, state.iteration + iterations):
        parts: list[Key] = [(f"adapt-{run}", iteration, place) for place in range(len(chunks))]
        tasks |= {key: (compute, now, *chunk) for key, chunk in zip(parts, chunks, strict=True)}
        for height, level in enumerate(levels(len(parts))):
            folds: dict[Key, Any] = {
                (f"fold-{run}", iteration, height, place): (fold, [parts[part] for part in places])
                for place, places in enumerate(level)
            }
            tasks |= folds
            parts = list(folds)
        tasks[f"step-{run}", iteration] = (advance, now, parts[0])
        now = (f"step-{run}", iteration)
    return as_collections(tasks, [now], partial(_preferred, f"adapt-{run}", _spread(len(chunks), workers)))[0]


def map_graph(
    name: str,
    run: str,
    function: Callable[..., Any],
    shared: Sequence[Any],
    chunks: Sequence[tuple[int, ...]],
    workers: Sequence[str] = (),
) -> list[Delayed]:
    """`function(*shared, *chunk)` for every chunk, under a run's identifier that nothing else on the scheduler has."""
    given: dict[Key, Any] = {(f"shared-{run}", place): value for place, value in enumerate(shared)}
    spread: dict[Key, Any] = {
        (f"{name}-{run}", place): (function, *given, *chunk) for place, chunk in enumerate(chunks)
    }
    return as_collections(
        given | spread, list(spread), partial(_preferred, f"{name}-{run}", _spread(len(chunks), workers))
    )


def as_collections(
    tasks: Mapping[Key, Any],
    wanted: Sequence[Key],
    preferred: Callable[[Key], list[str] | None],
    elsewhere: bool = True,
) -> list[Delayed]:
    """All tasks in one layer. `dask.delayed` makes a layer for each, which costs tens of milliseconds a window.

    A key's task is for its `preferred` workers, if it has any; `elsewhere` lets others take it, too.
    """
    layer = MaterializedLayer(dict(tasks), annotations={"workers": preferred, "allow_other_workers": elsewhere})
    graph = HighLevelGraph({"tasks": layer}, {"tasks": set()})
    return [Delayed(key, graph, layer="tasks") for key in wanted]


def _adapt(recipe: Recipe, window: Window, first: int, last: int) -> ChunkSum:
    return worker.adapt(recipe, window.state, first, last)


def _step(recipe: Recipe, window: Window, total: ChunkSum) -> Window:
    state, record = step(recipe, window.state, total)
    return Window(state, (*window.records, record))


def _spread(chunks: int, workers: Sequence[str]) -> list[str]:
    """The worker to prefer for each chunk; empty where no worker is known."""
    return [workers[owner] for owner in owners_of(chunks, len(workers))] if workers else []


def _preferred(name: str, spread: Sequence[str], key: Key) -> list[str] | None:
    """The worker to prefer for a chunk, which Dask asks for every key.

    Left to itself Dask keeps chunks where the state is, which is on one worker, and leaves the others idle.
    """
    return [spread[int(key[-1])]] if spread and key[0] == name else None
