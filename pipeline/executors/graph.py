"""The task graph of a window of meta-iterations, that of a gang's window, and that of a test.

    start ─┬─ adapt ─┐                ┌─ adapt ─┐
           ├─ adapt ─┼─ fold ─ step ──┼─ adapt ─┼─ fold ─ step …
           └─ adapt ─┘                └─ adapt ─┘

Chunks name their tasks by number and get the state; nothing else goes to them. The window's first state stands in the
graph itself, so that whatever a lost worker held can be computed again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from fanfold.pipeline import worker as work
from fanfold.pipeline.fold import ChunkSum, fold, levels
from fanfold.pipeline.optimizer import State, Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.step import step
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.episodes import Stream

EMBEDDED = 500  # test tasks a chunk where a chunk embeds each image once, however many of its tasks have it
SIDE_BY_SIDE = 10_000  # images a chunk of a test whose tasks are computed side by side: some gigabytes on a GPU

Key = tuple[str | int, ...]
Adapt = Callable[[Recipe, State, int, int], ChunkSum]


def window_graph(
    run: str,
    recipe: Recipe,
    state: State,
    iterations: int,
    workers: Sequence[str] = (),
    adapt: Adapt = work.adapt,
) -> Delayed:
    """The state after some more meta-iterations, with their records.

    Args:
        run: The run's identifier, part of every key, so that two runs on one scheduler never share a result.
        recipe: What the run's numbers depend on.
        state: The state to start from.
        iterations: How many meta-iterations.
        workers: Addresses to spread the chunks over; any worker may still take any chunk.
        adapt: What computes a chunk.
    """
    # Bound to the functions, the recipe stands in no task's arguments, which Dask would search for keys.
    compute, advance = partial(adapt, recipe), partial(step, recipe)
    chunks = recipe.meta.chunks()
    now: Key = (f"start-{run}", state.iteration)
    tasks: dict[Key, Any] = {now: work.without_records(state)}
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
    return _collections(tasks, [now], partial(_preferred, f"adapt-{run}", len(chunks), tuple(workers)))[0]


def gang_graph(run: str, number: int, ranks: Mapping[str, Callable[[], Any]]) -> list[Delayed]:
    """What the members of a gang do in a window, rank by rank.

    Args:
        run: The run's identifier.
        number: The window's number, that the run gave to no other.
        ranks: By worker's address: what it is to do, and no other worker may.
    """
    tasks: dict[Key, Any] = {(f"window-{run}", number, rank): (do,) for rank, do in enumerate(ranks.values())}
    return _collections(tasks, list(tasks), lambda key: [list(ranks)[int(key[-1])]], elsewhere=False)


def evaluation_graph(
    run: str,
    recipe: Recipe,
    parameters: Vector,
    stream: Stream,
    tasks: int,
    normalization: Normalization,
    workers: Sequence[str] = (),
) -> list[Delayed]:
    """The answers to tasks 0 … tasks - 1 of a stream, chunk by chunk.

    Args:
        run: Identifier of this very test, part of every key.
        recipe: What the run's numbers depend on.
        parameters: The meta-parameters to test.
        stream: Validation or test.
        tasks: How many tasks.
        normalization: Which images a query is normalized with.
        workers: Addresses to spread the chunks over.
    """
    name = {Stream.VALIDATION: "validate", Stream.TEST: "meta-testing"}[stream]
    test = partial(work.test, recipe, normalization)
    chunks = evaluation_chunks(recipe, tasks, normalization)
    tested: Key = (f"parameters-{run}", 0)
    population: Key = (f"statistics-{run}", 0)
    before: dict[Key, Any] = {tested: parameters, population: None}
    if normalization == "population":
        before[population] = (partial(work.statistics, recipe), tested)
    spread: dict[Key, Any] = {
        (f"{name}-{run}", place): (test, tested, population, stream, *chunk) for place, chunk in enumerate(chunks)
    }
    preferred = partial(_preferred, f"{name}-{run}", len(chunks), tuple(workers))
    return _collections({**before, **spread}, list(spread), preferred)


def evaluation_chunks(recipe: Recipe, tasks: int, normalization: Normalization) -> list[tuple[int, int]]:
    """First and last (exclusive) number of each chunk of a validation's or a test's tasks, wherever it is computed."""
    if normalization == "population":
        size = EMBEDDED
    elif recipe.together:
        shape = recipe.task
        support, queries = shape.ways * shape.shots, shape.ways * shape.queries
        images = support + queries * (support + 1 if normalization == "single" else 1)
        size = max(recipe.meta.chunk, SIDE_BY_SIDE // images)
    else:
        size = recipe.meta.chunk
    return recipe.meta.chunks(tasks, size)


def _collections(
    tasks: Mapping[Key, Any],
    wanted: Sequence[Key],
    preferred: Callable[[Key], list[str] | None],
    elsewhere: bool = True,
) -> list[Delayed]:
    """Tasks as one layer: a layer each, as `dask.delayed` makes them, takes Dask tens of milliseconds a window."""
    layer = MaterializedLayer(dict(tasks), annotations={"workers": preferred, "allow_other_workers": elsewhere})
    graph = HighLevelGraph({"tasks": layer}, {"tasks": set()})
    return [Delayed(key, graph, layer="tasks") for key in wanted]


def _preferred(name: str, places: int, workers: Sequence[str], key: Key) -> list[str] | None:
    """The worker to prefer for a chunk.

    Left to itself Dask keeps chunks where the state is, which is on one worker, and leaves the others idle.
    """
    if key[0] != name or not workers:
        return None
    return [workers[share(int(key[-1]), places, len(workers))]]


def share(place: int, places: int, workers: int) -> int:
    """Which of some workers a chunk of a meta-batch is for: neighbours together, as their sums are folded together."""
    return place * workers // places
