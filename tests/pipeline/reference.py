"""A run computed without any cluster: what every cluster must give, bit for bit."""

from dataclasses import replace

from fanfold.pipeline import worker as work
from fanfold.pipeline.fold import fold_all
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe


def run_alone(recipe: Recipe, iterations: int, state: State | None = None) -> State:
    """Meta-iterations one after another in this process, with the records of all of them."""
    state = state or work.initialize(recipe)
    for _ in range(iterations):
        parts = [work.adapt(recipe, replace(state, records=()), *places) for places in recipe.meta.chunks()]
        state = work.step(recipe, state, fold_all(parts))
    return state


def assert_same(found: State, expected: State) -> None:
    """Two states have the same bits, and the same records."""
    for name in ("parameters", "mean", "square", "average"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.records == expected.records
    assert found.iteration == expected.iteration
