from itertools import product

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fanfold.pipeline.search.space import Dimension, Space

KIND = Dimension("kind", CategoricalDistribution(["a", "b", "c"]))
OF_A_OR_B = Dimension("of_a_or_b", IntDistribution(1, 3), {"kind": ("a", "b")})
HALVES = Dimension("halves", FloatDistribution(0.0, 1.0, step=0.5))
RANGE = Dimension("range", FloatDistribution(0.1, 1.0, log=True))


@pytest.mark.parametrize(
    ("dimension", "grid"),
    [
        (KIND, ("a", "b", "c")),
        (Dimension("every_other", IntDistribution(1, 7, step=2)), (1, 3, 5, 7)),
        (Dimension("tenths", FloatDistribution(0.1, 0.4, step=0.1)), (0.1, 0.2, 0.3, 0.4)),
        (RANGE, None),
    ],
)
def test_a_grid_has_every_value_that_can_be_counted(dimension, grid):
    assert dimension.grid == (None if grid is None else pytest.approx(grid) if isinstance(grid[0], float) else grid)


def test_probes_are_all_choices_or_the_ends_of_a_range():
    assert KIND.probes == ("a", "b", "c")
    assert OF_A_OR_B.probes == (1, 3)
    assert RANGE.probes == (0.1, 1.0)


def test_a_dimension_counts_where_all_its_conditions_hold():
    both = Dimension("both", IntDistribution(1, 2), {"kind": ("a",), "halves": (0.0, 1.0)})
    assert KIND.counts({})
    assert OF_A_OR_B.counts({"kind": "b"})
    assert not OF_A_OR_B.counts({"kind": "c"})
    assert not OF_A_OR_B.counts({})  # what it depends on doesn't count itself
    assert both.counts({"kind": "a", "halves": 1.0})
    assert not both.counts({"kind": "a", "halves": 0.5})


def counted(dimensions):
    """Different trials, by going through all values of all dimensions."""
    trials = set()
    for values in product(*(dimension.grid for dimension in dimensions)):
        params = {}
        for dimension, value in zip(dimensions, values, strict=True):
            if dimension.counts(params):
                params[dimension.key] = value
        trials.add(tuple(params.items()))
    return len(trials)


@pytest.mark.parametrize(
    ("dimensions", "points"),
    [
        ((), 1),
        ((HALVES,), 3),
        ((KIND, HALVES), 9),
        ((KIND, OF_A_OR_B, HALVES), (2 * 3 + 1) * 3),
        (  # a chain: the last counts only for one value of the one before, which counts for two of three kinds
            (KIND, OF_A_OR_B, Dimension("of_two", IntDistribution(1, 4), {"of_a_or_b": (2,)})),
            2 * (1 + 4 + 1) + 1,
        ),
    ],
)
def test_a_space_has_as_many_points_as_there_are_different_trials(dimensions, points):
    assert Space(dimensions).points() == counted(dimensions) == points


def test_a_range_without_steps_has_no_number_of_points():
    assert Space((KIND, RANGE)).points() is None
