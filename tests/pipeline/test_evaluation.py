import re
from dataclasses import replace

import numpy as np
import pytest

from fanfold.data.datasets import Folder, Glyphs, prepare_pictures
from fanfold.data.errors import FanfoldError
from fanfold.data.sources.arrays import classes_of_lists
from fanfold.data.splits import split_classes
from fanfold.data.store import open_store
from fanfold.pipeline import evaluation, worker
from fanfold.pipeline.cluster.cluster import ClusterConfig
from fanfold.pipeline.configuration import Configuration, EvaluationConfig, TaskConfig, TrainTask
from fanfold.pipeline.evaluation import meta_test, not_learnt
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.experiment import decide
from fanfold.pipeline.recipe import Meta
from fanfold.pipeline.results import Accuracy
from fanfold.pipeline.tally import Tested, tally
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.episodes import Episodes, Stream
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
        ({"half_width": 0}, "`evaluation.half_width` must be above 0 and below 100, in percentage points, not 0."),
        (
            {"half_width": 1, "tasks": 99},
            "`evaluation.half_width` needs at least 100 tasks to judge by, not `evaluation.tasks=99`.",
        ),
        ({"steps": -1}, "`evaluation.steps` must be at least 0, not -1."),
    ],
)
def test_a_field_out_of_range_is_named(wrong, message):
    with pytest.raises(FanfoldError) as caught:
        EvaluationConfig(**wrong)
    assert (str(caught.value), caught.value.status) == (message, 2)


def judged(mean, ci95, losses):
    predictions = Predictions(np.zeros((2, 3, 1), np.int16), np.ones((2, 3, 1), np.float32), np.array(losses, "f4"))
    none = np.zeros((2, 3), np.int64)
    found = tally(Episodes(np.arange(3) + none, none, none > 0, none[..., None]), predictions)
    return Tested("batch", Accuracy(mean, ci95, 2), found, predictions)


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
    sections = TaskConfig(), TrainTask(), ProtoNet(), Conv4(), Meta(), EvaluationConfig(steps=3), ClusterConfig()
    asked = Configuration(0, Glyphs(), *sections)
    with pytest.raises(FanfoldError, match=r"protonet has no inner steps: leave `evaluation.steps` out"):
        decide(asked)


def test_many_ways_are_as_many_as_have_enough_pictures(tmp_path):
    """Of 30 classes few have pictures for a training task: 20 ways would be refused."""
    picture = np.eye(16, dtype=np.uint8)
    pictures = {f"{number:02}": [picture] * (2 if number % 6 else 6) for number in range(30)}
    folder = Folder(store=str(tmp_path / "few.zarr"), size=16)
    prepare_pictures(classes_of_lists(pictures), folder, progress=False)
    store = open_store(folder.store)
    able = int((store.counts[split_classes(store).train] >= 4).sum())
    assert 2 <= able < 20
    task, model = TaskConfig(2, 1, 1), Conv4(width=2)
    sections = task, TrainTask("many", queries=3), ProtoNet(), model, Meta(), EvaluationConfig(), ClusterConfig()
    assert decide(Configuration(0, folder, *sections)).recipe.train.ways == able


@pytest.mark.parametrize(
    ("counts", "test", "train", "told"),
    [
        ([9] * 50, (5, 1, 5), (20, 1, 3), None),
        ([9] * 4, (2, 1, 5), (2, 1, 3), "`task.ways=2`"),
        ([3] * 12, (5, 1, 2), (7, 1, 2), "`task.queries=2 train.queries=2`"),
        ([1, 2] * 10, (3, 1, 1), (7, 1, 1), "`task.ways=3 task.queries=1 train.queries=1`"),
    ],
)
def test_tasks_are_as_large_as_a_few_pictures_allow(tmp_path, counts, test, train, told):
    """Where a configuration leaves that open; a class of one picture is in no task."""
    picture = np.eye(16, dtype=np.uint8)
    folder = Folder(store=str(tmp_path / "few.zarr"), size=16)
    pictures = {f"{number:02}": [picture] * count for number, count in enumerate(counts)}
    prepare_pictures(classes_of_lists(pictures), folder, progress=False)
    sections = TaskConfig("auto", 1, "auto"), TrainTask("many", queries="auto"), ProtoNet(), Conv4(width=2)
    plan = decide(Configuration(0, folder, *sections, Meta(), EvaluationConfig(), ClusterConfig()))
    shapes = plan.recipe.task, plan.recipe.train
    assert [(shape.ways, shape.shots, shape.queries) for shape in shapes] == [test, train]
    small = [line for line in plan.told if "small tasks" in line]
    assert small == ([] if told is None else [f"Few classes or pictures, hence small tasks: {told}."])


def test_a_test_needs_no_validation_classes(recipe):
    recipe = replace(recipe, split="random")
    split = worker.open_context(recipe).split
    ways = len(split.validation) + 1
    assert ways <= len(split.test)
    wide = replace(recipe, task=replace(recipe.task, ways=ways))
    with pytest.raises(FanfoldError, match="the number of validation classes"):
        worker.check_recipe(wide)
    assert worker.check_recipe(wide, [Stream.TEST]).fingerprint


def test_a_test_in_rounds_is_the_whole_test(recipe, monkeypatch):
    """Each task is predicted once, and given on in its order; of the predictions the first ones alone are kept."""
    parameters, executor = worker.initialize(recipe).parameters, LocalExecutor(recipe)
    config = EvaluationConfig(tasks=50, other_tasks=50)
    whole = meta_test(executor, recipe, parameters, config)
    monkeypatch.setattr(evaluation, "ROUND", 21)
    monkeypatch.setattr(evaluation, "KEPT", 30)
    given = []
    pieced = meta_test(executor, recipe, parameters, config, each=lambda *part: given.append(part))
    for one, other in zip(whole, pieced, strict=True):
        assert (one.normalization, one.accuracy) == (other.normalization, other.accuracy)
        assert (one.tally.right == other.tally.right).all()
        assert (one.tally.queries == other.tally.queries).all()
    assert [first for first, _, _ in given] == [0, 21, 42]
    assert (
        np.concatenate([episodes.classes for _, episodes, _ in given])
        == worker.drawn(recipe, Stream.TEST, 0, 50).classes
    ).all()
    assert (np.concatenate([part.labels for _, _, part in given]) == whole[0].predictions.labels).all()
    assert (pieced[0].predictions.labels == whole[0].predictions.labels[:30]).all()


def test_a_test_goes_on_until_its_interval_is_as_narrow_as_asked(recipe):
    said, config = [], EvaluationConfig(tasks=100, half_width=2.5, other_tasks=0)
    (found,) = meta_test(LocalExecutor(recipe), recipe, worker.initialize(recipe).parameters, config, say=said.append)
    assert found.accuracy.tasks > 100
    assert 0.022 < found.accuracy.ci95 <= 0.025
    assert re.match(r"after 100 tasks \d+\.\d+ ± \d\.\d+ %: ± 2.5 % takes about [\d,]+ tasks", said[0])
