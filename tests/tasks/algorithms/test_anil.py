import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.network import as_network
from tests.tasks.reference import (
    SIZE,
    WAYS,
    Small,
    assert_exact,
    gradient_of,
    loss_of,
    make_network,
    make_tasks,
    relative_error,
)


def reference_loss(algorithm, network, tasks, head):
    """The query loss after plain descent of the head's numbers alone, through the whole network."""

    def loss(vector, support, query):
        weights = network.unflatten(vector.clone())
        for _ in range(algorithm.inner_steps):
            gradient = gradient_of(network, weights, support, tasks.support_labels)
            weights |= {name: weights[name] - algorithm.inner_lr * gradient[name] for name in head}
        return loss_of(network, weights, query, tasks.query_labels)

    return loss


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize(
    ("model", "head"),
    [
        (Conv4(width=2), ["head.weight", "head.bias"]),
        (Conv4Stride(width=2, reduce="flatten"), ["head.weight", "head.bias"]),
        (Small(norm=False), ["out.weight", "out.bias"]),
    ],
    ids=["conv4", "conv4-stride", "small"],
)
def test_the_meta_gradient_is_that_of_finite_differences(model, head, inner_steps):
    algorithm, (network, parameters) = Anil(inner_lr=0.3, inner_steps=inner_steps), make_network(model)
    tasks = make_tasks(1)
    assert_exact(algorithm, network, parameters, tasks, reference_loss(algorithm, network, tasks, head))


def plain_meta_gradient(algorithm, network, parameters, tasks, *, second_order):
    """MAML with a rate for the head alone, by autograd through the whole network."""
    leaf = parameters.clone().requires_grad_()
    theta = dict(network.unflatten(leaf))
    for _ in range(algorithm.inner_steps):
        loss = cross_entropy(network(theta, tasks.support[0]), tasks.support_labels)
        head = ("head.weight", "head.bias")
        gradients = torch.autograd.grad(loss, [theta[name] for name in head], create_graph=second_order)
        for name, gradient in zip(head, gradients, strict=True):
            theta[name] = theta[name] - algorithm.inner_lr * gradient
    cross_entropy(network(theta, tasks.query[0]), tasks.query_labels).backward()
    return leaf.grad


@pytest.mark.parametrize("first_order", [False, True])
def test_it_is_maml_restricted_to_the_head(first_order):
    algorithm, (network, parameters) = Anil(inner_steps=4, first_order=first_order), make_network(Conv4(width=4))
    tasks = make_tasks(1)
    found = algorithm.meta_gradient(network, parameters, 0, tasks).gradient
    expected = plain_meta_gradient(algorithm, network, parameters, tasks, second_order=not first_order)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    other = plain_meta_gradient(algorithm, network, parameters, tasks, second_order=first_order)
    assert relative_error(found, other) > 1e-3


def test_a_task_changes_the_head_and_leaves_the_features():
    algorithm, (network, parameters), tasks = Anil(inner_lr=0.2), make_network(Conv4Stride(width=4)), make_tasks(1)
    weights = dict(network.unflatten(parameters))
    for _ in range(3):
        gradient = gradient_of(network, weights, tasks.support[0], tasks.support_labels)
        weights |= {name: weights[name] - 0.2 * gradient[name] for name in ("head.weight", "head.bias")}
    found = algorithm.classifier(network, parameters, tasks.support[0], tasks.support_labels, 3)(tasks.query[0])
    torch.testing.assert_close(found, network(weights, tasks.query[0]), rtol=1e-10, atol=1e-12)


class NoBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(256, WAYS, bias=False)

    def forward(self, images):
        return self.out(images.flatten(1))


def test_a_head_without_bias_is_adapted_too():
    network = as_network(NoBias().double(), SIZE, WAYS)
    algorithm, parameters, tasks = Anil(inner_steps=2), network.initial()["out.weight"].flatten(), make_tasks(1)
    assert_exact(algorithm, network, parameters, tasks, reference_loss(algorithm, network, tasks, ["out.weight"]))


class Scaled(Small):
    """Ends in something else than its linear layer."""

    def build(self, ways, size):
        return nn.Sequential(super().build(ways, size), nn.LogSoftmax(1))


class WithoutLinear(Small):
    def build(self, ways, size):
        return nn.Sequential(nn.Conv2d(1, ways, 16), nn.Flatten())


@pytest.mark.parametrize("model", [Scaled(), WithoutLinear()], ids=["not at the end", "none at all"])
def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(model):
    network, _ = make_network(model)
    with pytest.raises(FanfoldError, match=r"must end in an nn\.Linear") as caught:
        Anil().initialize(network)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("inner_lr", "inner_steps"), [(0, 1), (-1, 1), (float("nan"), 1), (0.1, 0)])
def test_settings_without_sense_are_refused(inner_lr, inner_steps):
    with pytest.raises(FanfoldError, match=r"`algorithm\.inner_"):
        Anil(inner_lr=inner_lr, inner_steps=inner_steps)
