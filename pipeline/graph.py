"""The task graph of a window of meta-iterations, and that of a test.

    start ─┬─ adapt ─┐                ┌─ adapt ─┐
           ├─ adapt ─┼─ fold ─ step ──┼─ adapt ─┼─ fold ─ step …
           └─ adapt ─┘                └─ adapt ─┘

Chunks name their tasks by number and get the state; nothing else goes to them. The window's first state stands in the
graph itself, so that whatever a lost worker held can be computed again.
"""

from functools import partial

from dask.delayed import Delayed, delayed

from pipeline import work
from pipeline.fold import ChunkSum, fold, levels
from pipeline.optimizer import State, Vector
from pipeline.recipe import Recipe
from tasks.episodes import Stream


def window_graph(run: str, recipe: Recipe, state: State, iterations: int) -> Delayed:
    """The state after some more meta-iterations, with their records.

    Args:
        run: The run's identifier, part of every key, so that two runs on one scheduler never share a result.
        recipe: What the run's numbers depend on.
        state: The state to start from.
        iterations: How many meta-iterations.
    """
    # Bound to the functions, the recipe stands in no task's arguments, which Dask would search for tasks.
    adapt = delayed(partial(work.adapt, recipe), pure=False, traverse=False)
    step = delayed(partial(work.step, recipe), pure=False, traverse=False)
    add = delayed(_fold, pure=False, traverse=False)

    now: Delayed = delayed(work.without_records(state), name=f"start-{run}-{state.iteration}", traverse=False)
    for iteration in range(state.iteration, state.iteration + iterations):
        parts = [
            adapt(now, first, last, dask_key_name=(f"adapt-{run}", iteration, place))
            for place, (first, last) in enumerate(recipe.meta.chunks())
        ]
        for height, level in enumerate(levels(len(parts))):
            parts = [
                add(*parts[places.start : places.stop], dask_key_name=(f"fold-{run}", iteration, height, place))
                for place, places in enumerate(level)
            ]
        now = step(now, parts[0], dask_key_name=(f"step-{run}", iteration))
    return now


def test_graph(run: str, recipe: Recipe, parameters: Vector, stream: Stream, tasks: int) -> list[Delayed]:
    """The accuracies of tasks 0 … tasks - 1 of a stream, chunk by chunk.

    Args:
        run: Identifier of this very test, part of every key.
        recipe: What the run's numbers depend on.
        parameters: The meta-parameters to test.
        stream: Validation or test.
        tasks: How many tasks.
    """
    name = {Stream.VALIDATION: "validate", Stream.TEST: "test"}[stream]
    test = delayed(partial(work.test, recipe), pure=False, traverse=False)
    tested = delayed(parameters, name=f"parameters-{run}", traverse=False)
    return [
        test(tested, stream, first, last, dask_key_name=(f"{name}-{run}", place))
        for place, (first, last) in enumerate(recipe.meta.chunks(tasks))
    ]


def _fold(*parts: ChunkSum) -> ChunkSum:
    return fold(parts)
