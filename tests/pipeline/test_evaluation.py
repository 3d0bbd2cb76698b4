from dataclasses import replace

import numpy as np
import pytest

from fanfold.data.datasets import Glyphs
from fanfold.data.errors import FanfoldError
from fanfold.pipeline import results, worker
from fanfold.pipeline.cluster.cluster import ClusterConfig
from fanfold.pipeline.configuration import Configuration, EvaluationConfig, TrainTask
from fanfold.pipeline.evaluation import not_learnt
from fanfold.pipeline.experiment import decide
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.episodes import EpisodeShape, Stream
from fanfold.tasks.models import Conv4
from fanfold.tasks.predictions import Predictions


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


def judged(mean, ci95, losses):
    predictions = Predictions(np.zeros((2, 3, 1), np.int16), np.ones((2, 3, 1), np.float32), np.array(losses, "f4"))
    return results.Tested("batch", results.Accuracy(mean, ci95, 2), predictions)


def test_a_run_that_learnt_nothing_is_told_what_to_try(recipe):
    """The recipe's tasks have three classes: guessing gives a third right, and a loss of log 3, 1.10."""
    for learnt in (judged(0.40, 0.05, [1, 1]), judged(0.7, 0.01, [9, 9])):
        assert not_learnt(recipe, learnt) is None
    for nothing in (judged(0.35, 0.03, [1, 1]), judged(0.36, 0.01, [9, 9]), judged(0.1, 0.01, [1, 1])):
        line = not_learnt(recipe, nothing)
        assert f"{nothing.accuracy} is hardly better than a guess among 3 classes (33.33 %)" in line
        assert "Try a lower `meta.lr` (0.003) or `algorithm.inner_lr` (0.1), or train longer" in line
    assert "is not finite in 1 of 2 tasks" in not_learnt(recipe, judged(0.33, 0.02, [1, np.nan]))
    two = replace(recipe, task=replace(recipe.task, ways=2))
    assert not_learnt(two, judged(0.75, 0.08, [0.9, 0.9])) is None
    metric = not_learnt(replace(recipe, algorithm=ProtoNet()), judged(0.3, 0.05, [1, 1]))
    assert "Try a lower `meta.lr` (0.003), or train longer" in metric


def test_steps_are_refused_where_a_learner_has_none(recipe):
    sections = EpisodeShape(), TrainTask(), ProtoNet(), Conv4(), Meta(), EvaluationConfig(steps=3), ClusterConfig()
    asked = Configuration(0, Glyphs(), *sections)
    with pytest.raises(FanfoldError, match=r"protonet has no inner steps: leave `evaluation.steps` out"):
        decide(asked)


def test_a_test_needs_no_validation_classes(recipe):
    recipe = replace(recipe, split="random")
    split = worker.open_context(recipe).split
    ways = len(split.validation) + 1
    assert ways <= len(split.test)
    wide = replace(recipe, task=replace(recipe.task, ways=ways))
    with pytest.raises(FanfoldError, match="the number of validation classes"):
        worker.check_recipe(wide)
    assert worker.check_recipe(wide, [Stream.TEST]).fingerprint
