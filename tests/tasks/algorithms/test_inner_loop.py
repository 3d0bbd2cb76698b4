from math import inf, nan

import pytest
import torch

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.inner_loop import adapt, check_inner_loop, descend

START = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}


def test_a_step_descends_by_each_parameters_rate():
    gradient = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([1.0])}
    assert descend(START, gradient, {"a": 0.5, "b": torch.tensor([2.0])}) == {
        "a": pytest.approx([0.5, 1.5]),
        "b": pytest.approx([1.0]),
    }


def test_a_parameter_without_a_rate_stays():
    found = descend(START, {"a": torch.ones(2)}, {"a": torch.tensor([1.0, 0.5])})
    assert found["a"].tolist() == [0.0, 1.5]
    assert found["b"] is START["b"]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_every_step_takes_the_gradient_where_it_stands(steps):
    """On the loss ‖a‖² / 2, a step with rate α scales by 1 - α."""
    found = adapt(START, lambda at: {"a": at["a"]}, {"a": 0.5}, steps)
    assert found["a"].tolist() == [0.5**steps, 2 * 0.5**steps]


@pytest.mark.parametrize("rate", [0, -1, inf, nan])
def test_a_rate_must_be_positive_and_finite(rate):
    with pytest.raises(FanfoldError, match=r"`algorithm\.inner_lr` must be above 0"):
        check_inner_loop(rate, 1)


def test_there_must_be_a_step():
    check_inner_loop(0.1, 1)
    with pytest.raises(FanfoldError, match=r"`algorithm\.inner_steps` must be at least 1, not 0"):
        check_inner_loop(0.1, 0)
