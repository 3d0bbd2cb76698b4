"""ResNet-12 as published, written anew to compare with; with metric learners and with MAML."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, cross_entropy, leaky_relu, linear, max_pool2d

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.models import DropBlock, ResNet12
from fanfold.tasks.network import as_network
from tests.tasks.reference import SIZE, WAYS, make_network, make_tasks, nudged

NARROW = ResNet12(widths="2-3-4-5")


@pytest.mark.parametrize(
    ("widths", "millions"),
    [("64-128-256-512", 7.9968), ("64-160-320-640", 12.42432)],
    ids=["Meta-Baseline: 8.0", "MetaOptNet: 12.4"],
)
def test_the_embedding_has_as_many_parameters_as_published(widths, millions):
    module = ResNet12(widths=widths).build(5, (16, 16), 3)
    assert sum(value.numel() for value in module.features.parameters()) == round(millions * 1e6)


def reference(parameters, images):
    """The network's logits, from its parameters in their order."""
    left = list(parameters)

    def normed(maps, padding):
        weight, scale, shift = left.pop(0), left.pop(0), left.pop(0)
        return batch_norm(conv2d(maps, weight, padding=padding), None, None, scale, shift, training=True)

    maps = images
    for _ in range(4):
        straight = leaky_relu(normed(leaky_relu(normed(maps, 1), 0.1), 1), 0.1)
        maps = max_pool2d(leaky_relu(normed(straight, 1) + normed(maps, 0), 0.1), 2)
    return linear(avg_pool2d(maps, maps.shape[-1]).flatten(1), *left)


def test_a_forward_pass_is_the_papers():
    network, vector = make_network(NARROW)
    theta = network.unflatten(nudged(vector, 0.3))
    images = torch.rand(4, 1, *SIZE, dtype=torch.float64)
    torch.testing.assert_close(network(theta, images), reference(theta.values(), images))


def test_mamls_meta_gradient_is_exact():
    network, vector = make_network(NARROW)
    vector, tasks = nudged(vector), make_tasks(2)
    found = Maml(inner_lr=0.1, inner_steps=2).meta_gradient(network, vector, 0, tasks).gradient

    theta = {name: value.detach().requires_grad_() for name, value in network.unflatten(vector).items()}
    total = torch.zeros((), dtype=torch.float64)
    for support, query in zip(tasks.support, tasks.query, strict=True):
        now = list(theta.values())
        for _ in range(2):
            loss = cross_entropy(reference(now, support), tasks.support_labels)
            gradient = torch.autograd.grad(loss, now, create_graph=True)
            now = [value - 0.1 * part for value, part in zip(now, gradient, strict=True)]
        total = total + cross_entropy(reference(now, query), tasks.query_labels)
    wanted = torch.cat([part.flatten() for part in torch.autograd.grad(total, list(theta.values()))])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_metric_learners_train_it_task_by_task_and_vectorized(drop):
    module = replace(NARROW, drop=drop).build(WAYS, SIZE).double()
    one, many = (as_network(module, SIZE, None, vectorized=vectorized) for vectorized in (False, True))
    vector = torch.cat([value.flatten() for value in one.initial().values()])
    for network in (one, many):
        network.train(True)
    first, second = (ProtoNet().meta_gradient(each, vector, 0, make_tasks(2)).gradient for each in (one, many))
    assert torch.isfinite(second).all()
    assert (not drop) == torch.allclose(first, second)


def test_drop_block_zeroes_squares_and_scales_the_rest():
    torch.manual_seed(0)
    maps, layer = torch.ones(200, 8, 10, 10), DropBlock(0.1, 3)
    dropped = layer(maps)
    zero = dropped == 0
    # Less than the rate, by squares that overlap.
    assert zero.double().mean() == pytest.approx(0.1, abs=0.015)
    assert dropped.mean() == pytest.approx(1, rel=1e-4)
    # Each zero lies in a square of zeros.
    whole = max_pool2d(1.0 - zero.float(), 3, 1) == 0
    covered = torch.nn.functional.max_pool2d(torch.nn.functional.pad(whole.float(), (2, 2, 2, 2)), 3, 1) == 1
    assert torch.equal(covered, zero)
    assert torch.equal(layer.eval()(maps), maps)


@pytest.mark.parametrize("widths", ["64-128-256", "a-b-c-d", "1-2-3-0", ""])
def test_widths_that_are_none(widths):
    with pytest.raises(FanfoldError, match=r"`model\.widths` must be four numbers"):
        ResNet12(widths=widths)


def test_a_share_that_is_none():
    with pytest.raises(FanfoldError, match=r"`model\.drop`"):
        ResNet12(drop=1)
