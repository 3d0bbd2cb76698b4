"""The task graph of a window of meta-iterations, and that of a test.

    start ─┬─ adapt ─┐                ┌─ adapt ─┐
           ├─ adapt ─┼─ fold ─ step ──┼─ adapt ─┼─ fold ─ step …
           └─ adapt ─┘                └─ adapt ─┘

Chunks name their tasks by number and get the state; nothing else goes to them. The window's first state stands in the
graph itself, so that whatever a lost worker held can be computed again.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from dask.base import annotate
from dask.delayed import Delayed, delayed

from pipeline import work
from pipeline.fold import ChunkSum, fold, levels
from pipeline.optimizer import State, Vector
from pipeline.recipe import Recipe
from tasks.episodes import Stream


def window_graph(run: str, recipe: Recipe, state: State, iterations: int, workers: Sequence[str] = ()) -> Delayed:
    """The state after some more meta-iterations, with their records.

    Args:
        run: The run's identifier, part of every key, so that two runs on one scheduler never share a result.
        recipe: What the run's numbers depend on.
        state: The state to start from.
        iterations: How many meta-iterations.
        workers: Addresses to spread the chunks over; any worker may still take any chunk.
    """
    # Bound to the functions, the recipe stands in no task's arguments, which Dask would search for tasks.
    adapt = delayed(partial(work.adapt, recipe), pure=False, traverse=False)
    step = delayed(partial(work.step, recipe), pure=False, traverse=False)
    add = delayed(_fold, pure=False, traverse=False)

    chunks = recipe.meta.chunks()
    now: Delayed = delayed(work.without_records(state), name=f"start-{run}-{state.iteration}", traverse=False)
    for iteration in range(state.iteration, state.iteration + iterations):
        parts = []
        for place, (first, last) in enumerate(chunks):
            with _preferred(workers, place, len(chunks)):
                parts.append(adapt(now, first, last, dask_key_name=(f"adapt-{run}", iteration, place)))
        for height, level in enumerate(levels(len(parts))):
            parts = [
                add(*parts[places.start : places.stop], dask_key_name=(f"fold-{run}", iteration, height, place))
                for place, places in enumerate(level)
            ]
        now = step(now, parts[0], dask_key_name=(f"step-{run}", iteration))
    return now


def evaluation_graph(
    run: str, recipe: Recipe, parameters: Vector, stream: Stream, tasks: int, workers: Sequence[str] = ()
) -> list[Delayed]:
    """The accuracies of tasks 0 … tasks - 1 of a stream, chunk by chunk.

    Args:
        run: Identifier of this very test, part of every key.
        recipe: What the run's numbers depend on.
        parameters: The meta-parameters to test.
        stream: Validation or test.
        tasks: How many tasks.
        workers: Addresses to spread the chunks over.
    """
    name = {Stream.VALIDATION: "validate", Stream.TEST: "test"}[stream]
    test = delayed(partial(work.test, recipe), pure=False, traverse=False)
    tested = delayed(parameters, name=f"parameters-{run}", traverse=False)
    chunks, tests = recipe.meta.chunks(tasks), []
    for place, (first, last) in enumerate(chunks):
        with _preferred(workers, place, len(chunks)):
            tests.append(test(tested, stream, first, last, dask_key_name=(f"{name}-{run}", place)))
    return tests


def _preferred(workers: Sequence[str], place: int, places: int) -> AbstractContextManager[object]:
    """Prefer one worker for the task in some place: neighbours together, as their sums are folded together.

    Left to itself Dask keeps tasks where the state is, which is on one worker, and leaves the others idle.
    """
    if not workers:
        return nullcontext()
    return annotate(workers=[workers[place * len(workers) // places]], allow_other_workers=True)


def _fold(*parts: ChunkSum) -> ChunkSum:
    return fold(parts)
