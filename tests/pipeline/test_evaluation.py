import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import EvaluationConfig


def test_the_least_that_can_be_evaluated():
    assert EvaluationConfig(every=1, validation_tasks=2, tasks=2, other_tasks=0, steps=0).steps == 0
    assert EvaluationConfig(other_tasks=2).other_tasks == 2
    assert EvaluationConfig().steps is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every": 0}, "`evaluation.every` must be at least 1, not 0."),
        ({"validation_tasks": 1}, "`evaluation.validation_tasks` must be at least 2, not 1."),
        ({"tasks": 1}, "`evaluation.tasks` must be at least 2, not 1."),
        ({"other_tasks": 1}, "`evaluation.other_tasks` must be 0 or at least 2, not 1."),
        ({"other_tasks": -2}, "`evaluation.other_tasks` must be 0 or at least 2, not -2."),
        ({"steps": -1}, "`evaluation.steps` must be at least 0, not -1."),
    ],
)
def test_a_field_out_of_range_is_named(wrong, message):
    with pytest.raises(FanfoldError) as caught:
        EvaluationConfig(**wrong)
    assert (str(caught.value), caught.value.status) == (message, 2)
