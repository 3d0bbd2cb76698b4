"""Vectorized over tasks, as on a GPU, results are those of tasks one after another; here in float64 on a CPU."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from fanfold.tasks.network import as_network, batch_statistics, with_statistics
from fanfold.tasks.parameters import flatten
from fanfold.tasks.predict import predict
from tests.tasks.every_algorithm import EVERY, each
from tests.tasks.reference import SIZE, WAYS, Small, assert_agree, make_module, make_tasks, nudged, relative_error

MODELS = [Conv4(width=4), Conv4Stride(width=4), Conv4Stride(width=4, reduce="flatten"), Article(width=3, hidden=7)]


def both_ways(algorithm, model):
    """The network for tasks one after another and vectorized over tasks, and meta-parameters."""
    module, ways = make_module(model), WAYS if algorithm.head else None
    alone, vectorized = (as_network(module, SIZE, ways, vectorized=how) for how in (False, algorithm.vectorizes))
    torch.manual_seed(1)
    return alone, vectorized, nudged(algorithm.initialize(alone))


# Before batch norm, a convolution's bias has a gradient of nothing but rounding, which Adam scales up: without it.
@pytest.mark.parametrize("model", [Conv4(width=3), Small(norm=False)], ids=lambda model: model.name)
@each(EVERY)
def test_the_meta_gradient_is_the_same(algorithm, model):
    if isinstance(algorithm, Anil) and model.name == "small":
        model = Conv4Stride(width=3)
    alone, vectorized, parameters = both_ways(algorithm, model)
    tasks = make_tasks(3, shots=2, queries=2)
    expected = algorithm.meta_gradient(alone, parameters, 3, tasks)
    found = algorithm.meta_gradient(vectorized, parameters, 3, tasks)
    assert_agree(found, expected, 1e-10)


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("differentiation", ["reverse", "mixed", "first order"])
@pytest.mark.parametrize("steps", [1, 3])
def test_maml_is_written_out_for_every_network_of_the_literature(model, differentiation, steps):
    exact = {} if differentiation == "first order" else {"differentiation": differentiation}
    algorithm = Maml(inner_lr=0.1, inner_steps=steps, first_order=not exact, **exact)
    alone, vectorized, parameters = both_ways(algorithm, model)
    assert vectorized.stack is not None
    tasks = make_tasks(3)
    expected = algorithm.meta_gradient(alone, parameters, 0, tasks)
    found = algorithm.meta_gradient(vectorized, parameters, 0, tasks)
    assert_agree(found, expected, 1e-11)


def test_the_last_feature_maps_may_be_the_logits():
    """Numbers that no linear layer puts in order are the classes' in the order that PyTorch has them in."""
    blocks = [
        layer
        for inside, outside in ((1, 3), (3, 2))
        for layer in (
            nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outside, track_running_stats=False),
            nn.ReLU(),
        )
    ]
    torch.manual_seed(0)
    module = nn.Sequential(*blocks, nn.MaxPool2d(2), nn.Flatten()).double()  # pictures of 2 channels and 2 × 2 places
    alone, vectorized = (as_network(module, SIZE, 8, vectorized=how) for how in (False, True))
    algorithm, tasks, parameters = Maml(inner_lr=0.1), make_tasks(2, ways=8), nudged(flatten(vectorized.initial()))
    expected = algorithm.meta_gradient(replace(alone, stack=None), parameters, 0, tasks)
    for network in (alone, vectorized):
        assert network.stack is not None
        found = algorithm.meta_gradient(network, parameters, 0, tasks)
        assert relative_error(found.gradient, expected.gradient) < 1e-10
        assert torch.equal(found.accuracies, expected.accuracies)


@each(EVERY)
def test_predictions_are_the_same_however_queries_are_normalized(algorithm):
    alone, vectorized, parameters = both_ways(algorithm, Conv4(width=3))
    tasks = make_tasks(3)
    for normalization in algorithm.normalizations:
        if normalization == "population":
            images = make_tasks(20).support.flatten(0, 1)
            statistics = batch_statistics(alone, alone.own(parameters), images)
            networks = [with_statistics(network, statistics) for network in (alone, vectorized)]
        else:
            networks = [alone, vectorized]
        expected, found = (predict(algorithm, network, parameters, tasks, None, normalization) for network in networks)
        assert (found.labels == expected.labels).all()
        torch.testing.assert_close(torch.from_numpy(found.confidences), torch.from_numpy(expected.confidences))
        torch.testing.assert_close(torch.from_numpy(found.losses), torch.from_numpy(expected.losses))


def test_statistics_of_training_images_are_the_same():
    alone, vectorized, parameters = both_ways(EVERY["protonet"], Conv4(width=3))
    images = make_tasks(4).support.flatten(0, 1)
    expected, found = (batch_statistics(network, network.own(parameters), images) for network in (alone, vectorized))
    assert all(torch.allclose(found[name], expected[name]) for name in expected)


class Deciding(nn.Module):
    """A network whose way depends on the numbers it sees, which `torch.vmap` can't follow."""

    def __init__(self, ways):
        super().__init__()
        self.head = nn.Linear(16 * 16, ways)

    def forward(self, images):
        flat = images.flatten(1)
        return self.head(flat if flat.sum() > 0 else -flat)


def test_a_network_that_cannot_be_vectorized_says_so():
    assert as_network(Deciding(3), SIZE, 3).outputs == 3
    with pytest.raises(FanfoldError, match=r"set `meta\.together` to false"):
        as_network(Deciding(3), SIZE, 3, vectorized=True)
