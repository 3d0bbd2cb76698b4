"""Windows and chunks in this process, without Dask: the reference for every other executor."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from fanfold.pipeline import worker
from fanfold.pipeline.executors.base import Executor, Result, Window
from fanfold.pipeline.executors.device_loop import DeviceLoop, suits
from fanfold.pipeline.executors.member_loop import Check
from fanfold.pipeline.executors.segments import Share
from fanfold.pipeline.executors.stopwatch import Stopwatch
from fanfold.pipeline.fold import fold_all
from fanfold.pipeline.optimizer import State, step
from fanfold.pipeline.recipe import Recipe


class LocalExecutor(Executor):
    """Computes on this process's device."""

    def __init__(self, recipe: Recipe, check: Check = lambda: None) -> None:
        self._recipe, self._check = recipe, check

    def window(self, state: State, iterations: int) -> Window:
        self._check()
        if suits(self._recipe, worker.open_context(self._recipe)):
            return _window_on_device(self._recipe, state, iterations, self._check)
        return plain_window(self._recipe, state, iterations)

    def map(
        self, name: str, function: Callable[..., Result], shared: Sequence[Any], chunks: Sequence[tuple[int, ...]]
    ) -> list[Result]:
        return [function(*shared, *chunk) for chunk in chunks]


def plain_window(recipe: Recipe, state: State, iterations: int) -> Window:
    """The next meta-iterations, chunk by chunk: what every executor must give, bit for bit."""
    chunks, records = recipe.meta.chunks(), []
    for _ in range(iterations):
        total = fold_all([worker.adapt(recipe, state, *chunk) for chunk in chunks])
        state, record = step(recipe, state, total)
        records.append(record)
    return Window(state, tuple(records))


def _window_on_device(recipe: Recipe, state: State, iterations: int, check: Check) -> Window:
    loop = _device_loop(recipe, len(state.parameters))
    loop.start(state.parameters, state)
    records = loop.window(iterations, check, Stopwatch())
    return Window(loop.standing[1], records)


@lru_cache(maxsize=2)  # its CUDA graphs are dear, and a search's trials come back segment by segment
def _device_loop(recipe: Recipe, size: int) -> DeviceLoop:
    return DeviceLoop(recipe, Share(0, 1, tuple(recipe.meta.chunks())), size)
