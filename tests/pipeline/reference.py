"""The window that every executor must give, bit for bit."""

from fanfold.pipeline import worker
from fanfold.pipeline.executors.base import Window
from fanfold.pipeline.executors.local import plain_window
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe


def alone(recipe: Recipe, iterations: int) -> Window:
    """A run's first meta-iterations, in this process."""
    return plain_window(recipe, worker.initialize(recipe), iterations)


def assert_same_state(found: State, expected: State) -> None:
    """Two states have the same bits."""
    for name in ("parameters", "mean", "square", "average"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    assert found.iteration == expected.iteration


def assert_same(found: Window, expected: Window) -> None:
    """Two windows end in the same bits, and have the same records."""
    assert_same_state(found.state, expected.state)
    assert found.records == expected.records
