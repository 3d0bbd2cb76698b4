"""What the tests of the algorithms share: small tasks and networks, and gradients written anew to compare with."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network, as_network
from fanfold.tasks.parameters import flatten

WAYS = 3
SIZE = (16, 16)


def make_tasks(count, shots=2, queries=2, size=16, ways=WAYS):
    """Tasks of random pictures in float64."""
    generator = torch.Generator().manual_seed(1)
    label = torch.arange(ways)
    images = [
        torch.rand(count, ways * each, 1, size, size, generator=generator, dtype=torch.float64)
        for each in (shots, queries)
    ]
    return TaskBatch(images[0], label.repeat_interleave(shots), images[1], label.repeat_interleave(queries))


def one_task(tasks, place):
    """A batch of one of the tasks."""
    part = slice(place, place + 1)
    return TaskBatch(tasks.support[part], tasks.support_labels, tasks.query[part], tasks.query_labels)


def make_module(model, ways=WAYS):
    """The model, freshly initialized, in float64."""
    torch.manual_seed(0)
    return model.build(ways, SIZE).double()


def make_network(model, ways=WAYS):
    """The network, and its parameters as it was initialized; without its head where `ways` is none."""
    network = as_network(make_module(model, ways or WAYS), SIZE, ways)
    return network, flatten(network.initial())


def start(algorithm, model):
    """The network that the algorithm asks for, and its meta-parameters before the first iteration."""
    network, _ = make_network(model, WAYS if algorithm.head else None)
    torch.manual_seed(1)
    return network, algorithm.initialize(network)


def nudged(parameters, by=0.03):
    """The vector a little off, so that no two of its numbers are the same: rates, scales and shifts start alike."""
    generator = torch.Generator().manual_seed(2)
    return parameters + by * torch.randn(parameters.shape, generator=generator, dtype=parameters.dtype)


@dataclass(frozen=True)
class Small:
    """Two blocks of strided convolution, with batch norm or without, and a head: few enough numbers to nudge each."""

    name: str = "small"
    width: int = 2
    norm: bool = True

    def build(self, ways, size):
        return SmallNet(ways, self.width, self.norm)


class SmallNet(nn.Module):
    """A network of one's own."""

    def __init__(self, ways, width=2, norm=True):
        super().__init__()
        layers = []
        for channels in (1, width):
            layers += [nn.Conv2d(channels, width, 3, stride=2), *([_batch_norm(width)] if norm else []), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.out = nn.Linear(9 * width, ways)

    def forward(self, images):
        return self.out(self.body(images))


class Headless(nn.Module):
    """A network of one's own without any linear layer."""

    def __init__(self, ways, norm=True):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=4), *([_batch_norm(3)] if norm else []), nn.SiLU(), nn.Conv2d(3, ways, 3)
        )

    def forward(self, images):
        return self.body(images).mean((2, 3))


def _batch_norm(width):
    return nn.BatchNorm2d(width, track_running_stats=False)


DIRECTIONS = 16  # a gradient that is wrong anywhere is as wrong along them, relative to its length, as on the whole


def along(gradient):
    """The parts of a gradient along a few random directions, which are orthogonal and of length 1."""
    return directions(gradient) @ gradient


def directions(vector):
    """The directions for vectors of this length, a row each."""
    generator = torch.Generator().manual_seed(3)
    shape = len(vector), min(DIRECTIONS, len(vector))
    return torch.linalg.qr(torch.randn(shape, generator=generator, dtype=vector.dtype))[0].T


def finite_differences(function, parameters, step=1e-6):
    """The differences of a function of a vector `along` the directions; of one whose values are vectors, a row each."""
    found = [
        (function(parameters + step * direction) - function(parameters - step * direction)) / (2 * step)
        for direction in directions(parameters)
    ]
    return torch.stack([torch.as_tensor(row, dtype=parameters.dtype) for row in found])


def relative_error(found, expected):
    """The distance between two vectors as a share of the second's length."""
    return float((found - expected).norm() / expected.norm())


def assert_agree(found, expected, tolerance):
    """Two meta-gradients are the same but for rounding, relative; in the answers that they found right, too."""
    assert relative_error(found.gradient, expected.gradient) < tolerance
    torch.testing.assert_close(found.losses, expected.losses, rtol=tolerance, atol=tolerance / 100)
    assert torch.equal(found.accuracies, expected.accuracies)


def assert_exact(algorithm, network, parameters, tasks, loss, iteration=0):
    """The algorithm's losses are those of a function written anew, its gradient that function's differences.

    Args:
        algorithm: The algorithm.
        network: The network.
        parameters: The meta-parameters to look at.
        tasks: The tasks.
        loss: Meta-parameters, support and query images to a task's loss, a float.
        iteration: The meta-iteration.
    """

    def total(vector):
        return sum(loss(vector, *images) for images in zip(tasks.support, tasks.query, strict=True))

    found = algorithm.meta_gradient(network, parameters, iteration, tasks)
    assert abs(float(found.losses.sum()) - total(parameters)) < 1e-10
    assert relative_error(along(found.gradient), finite_differences(total, parameters)) < 1e-6


def loss_of(network: Network, weights, images, labels) -> float:
    """The mean cross-entropy of images."""
    with torch.no_grad():
        return float(cross_entropy(network(weights, images), labels))


def gradient_of(network: Network, weights, images, labels):
    """The gradient of the mean cross-entropy of images, by name: an ordinary backward pass."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    cross_entropy(network(leaves, images), labels).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


def cut(vector, shapes):
    """A flat vector as named tensors of these shapes, one after the other, and nothing left over."""
    named, place = {}, 0
    for name, shape in shapes:
        count = int(torch.tensor(tuple(shape)).prod())
        named[name] = vector[place : place + count].reshape(tuple(shape))
        place += count
    assert place == len(vector)
    return named


def permuted(images, order):
    """Images that lie class by class, with the classes in another order."""
    return images.unflatten(0, (len(order), -1))[order].flatten(0, 1)


def squared_distance(one, other):
    return ((one - other) ** 2).sum()
