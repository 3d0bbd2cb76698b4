"""Several runs that judge a task together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.ensemble import Member, meta_test_together, normalizations_in_common
from fanfold.pipeline.evaluation import meta_test, predict
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.episodes import Stream
from fanfold.tasks.models import Conv4Stride
from fanfold.tasks.predict import averaged, from_logits

CONFIG = EvaluationConfig(tasks=24, other_tasks=8)


def member(recipe, seed, **changes):
    """A member by the parameters that a run of this seed starts from."""
    own = replace(recipe, seed=seed, **changes)
    return Member(f"run{seed}", own, worker.initialize(own).parameters)


def test_class_probabilities_are_averaged():
    generator, true = torch.Generator().manual_seed(1), torch.tensor([0, 1, 2, 0])
    logits = [torch.randn((2, 4, 3), generator=generator) * scale for scale in (1, 5, 200)]
    mean = torch.stack([one.softmax(2) for one in logits]).mean(0)
    labels, confidences, losses = from_logits(averaged(logits), true)
    assert torch.equal(labels, mean.argmax(2))
    assert torch.allclose(confidences, mean.amax(2), atol=1e-6)
    expected = cross_entropy(mean.log().transpose(1, 2), true.expand(2, -1), reduction="none").mean(1)
    assert torch.allclose(losses, expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", [None, ProtoNet()])
def test_an_ensemble_of_one_run_twice_judges_as_the_run(recipe, algorithm):
    own = recipe if algorithm is None else replace(recipe, algorithm=algorithm)
    one = member(own, 3)
    alone = meta_test(LocalExecutor(own), own, one.parameters, CONFIG)
    together = meta_test_together(LocalExecutor(own), [one, one], CONFIG)
    assert [found.normalization for found in together] == list(own.algorithm.normalizations)
    for found, expected in zip(together, alone, strict=True):
        assert found.accuracy == expected.accuracy
        assert np.allclose(found.predictions.losses, expected.predictions.losses, atol=1e-6)


def test_members_of_other_seeds_and_networks_judge_the_tasks_of_the_first(recipe):
    """Each by its own algorithm and parameters, and all by a normalization that suits each."""
    members = [member(recipe, 3), member(recipe, 4, algorithm=ProtoNet(), model=Conv4Stride(width=4))]
    assert normalizations_in_common(members) == ["batch"]
    (found,) = meta_test_together(LocalExecutor(recipe), members, CONFIG)
    judged = [
        predict(LocalExecutor(recipe), replace(one.recipe, seed=3), one.parameters, Stream.TEST, 24, "batch")
        for one in members
    ]
    # Where both say the same, the ensemble does; elsewhere it is as one of them. Nothing of this holds on other tasks.
    said, labels = found.predictions.labels, [one.labels for one in judged]
    agreed = labels[0] == labels[1]
    assert (said[agreed] == labels[0][agreed]).all()
    assert 0.3 < agreed.mean() < 1
    sure = [one.confidences for one in judged]
    surer = np.where(sure[0] > sure[1], labels[0], labels[1])
    assert ((said == surer) | agreed).mean() > 0.8


def test_members_without_a_normalization_in_common_are_told(recipe):
    class Own(ProtoNet):
        normalizations = ("population",)

    members = [member(recipe, 3), member(recipe, 4, algorithm=Own())]
    with pytest.raises(FanfoldError, match=r"whole ensemble: run3 by batch or single, run4 by population\."):
        normalizations_in_common(members)
