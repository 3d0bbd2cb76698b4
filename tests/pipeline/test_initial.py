"""A run that starts from another run's network."""

from dataclasses import replace

import numpy as np
import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import cut, load_checkpoint, save_checkpoint
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.initial import read_initial, start_from
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import Job, start
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.models import Article


@pytest.fixture
def other(recipe, tmp_path):
    """The run of a metric learner, which has no head, from another seed."""
    directory = RunDirectory(tmp_path / "other")
    directory.create("seed: 4\n")
    found = start(Job(replace(recipe, algorithm=ProtoNet(), seed=4), EvaluationConfig()))
    save_checkpoint(directory.last, replace(found, best=found.best + 1))
    return directory


def test_tensors_that_fit_are_taken_and_the_others_start_anew(recipe, other):
    mine = replace(recipe, algorithm=MamlPlusPlus(inner_steps=2, norm_per_step=False))
    fresh = start(Job(mine, EvaluationConfig()))
    job = Job(replace(mine, meta=replace(mine.meta, initial=str(other.path))), EvaluationConfig(), "a note")
    found = start(job)
    body = load_checkpoint(other.last).best
    count = len(body)
    assert found.state.parameters[:count].tobytes() == body.tobytes()
    mine, before = cut(found.state.parameters, found.layout), cut(fresh.state.parameters, fresh.layout)
    head = [name for name in mine if name.startswith(".head")]
    assert len(head) == 2
    assert not any(mine[name].any() for name in head)
    rates = [name for name in mine if name.startswith(":")]
    assert rates
    assert all(mine[name].tobytes() == before[name].tobytes() for name in rates)
    assert found.best.tobytes() == found.state.average.tobytes() == found.state.parameters.tobytes()
    assert found.note.startswith("a note; starts from ")
    assert str(other.path) in found.note
    assert "; at zero: head.weight, head.bias; anew: " in found.note


def test_shapes_decide_not_the_number_of_values(recipe, other):
    layout, initial = {".a": (2, 3), ".b": (2,)}, read_initial(other.last)
    tensors = {".a": np.ones((3, 2), np.float32), ".b": np.ones(2, np.float32)}
    found, _ = start_from(initial._replace(tensors=tensors), np.full(8, 2, np.float32), layout, [".a"])
    assert found.tolist() == [0] * 6 + [1, 1]


def test_what_is_no_run_or_fits_nowhere_is_an_error(recipe, other, tmp_path):
    with pytest.raises(FanfoldError, match=r"`meta.initial=.*nowhere` holds no run to start from"):
        read_initial(tmp_path / "nowhere")
    with pytest.raises(FanfoldError, match="holds no run to start from"):
        read_initial(tmp_path)
    small = replace(recipe, model=Article(hidden=3), meta=replace(recipe.meta, initial=str(other.path)))
    with pytest.raises(FanfoldError, match=r"No tensor of .* fits this network"):
        start(Job(small, EvaluationConfig()))


def test_without_one_it_is_the_start_from_the_seed(recipe):
    assert start(Job(recipe, EvaluationConfig())).state.equals(worker.initialize(recipe))
