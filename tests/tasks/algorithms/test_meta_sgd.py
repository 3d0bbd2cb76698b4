import pytest
import torch

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.models import Conv4, Conv4Stride
from tests.tasks.reference import assert_exact, cut, gradient_of, loss_of, make_network, make_tasks, nudged, start


def reference_loss(algorithm, network, tasks):
    """The query loss after steps of a rate of each number's own; the second half of the vector are the rates."""

    def loss(vector, support, query):
        theta, rates = vector.chunk(2)
        for _ in range(algorithm.inner_steps):
            weights = cut(theta, network.shapes.items())
            gradient = gradient_of(network, weights, support, tasks.support_labels)
            theta = theta - rates * torch.cat([part.flatten() for part in gradient.values()])
        return loss_of(network, cut(theta, network.shapes.items()), query, tasks.query_labels)

    return loss


@pytest.mark.parametrize(
    ("model", "inner_steps"), [(Conv4(width=3), 1), (Conv4Stride(width=3), 2)], ids=["pooled", "strided"]
)
def test_the_meta_gradient_is_that_of_finite_differences(model, inner_steps):
    """With respect to all meta-parameters: initialization and rates."""
    algorithm, tasks = MetaSgd(inner_lr=0.1, inner_steps=inner_steps), make_tasks(1)
    network, parameters = start(algorithm, model)
    assert_exact(algorithm, network, nudged(parameters), tasks, reference_loss(algorithm, network, tasks))


def test_it_starts_from_the_network_with_one_rate_for_all():
    algorithm = MetaSgd(inner_lr=0.25)
    _, parameters = start(algorithm, Conv4(width=3))
    theta, rates = parameters.chunk(2)
    assert torch.equal(theta, make_network(Conv4(width=3))[1])
    assert rates.eq(0.25).all()


def test_one_step_from_there_has_the_gradient_of_maml():
    algorithm, tasks = MetaSgd(inner_lr=0.25), make_tasks(2)
    network, parameters = start(algorithm, Conv4(width=4))
    theta = parameters.chunk(2)[0]
    found = algorithm.meta_gradient(network, parameters, 0, tasks)
    expected = Maml(inner_lr=0.25).meta_gradient(network, theta, 0, tasks)
    torch.testing.assert_close(found.gradient.chunk(2)[0], expected.gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-12, atol=0)
    assert found.gradient.chunk(2)[1].abs().max() > 0


@pytest.mark.parametrize("steps", [None, 0, 3])
def test_a_task_is_learnt_by_the_learned_rates(steps):
    algorithm, tasks = MetaSgd(inner_lr=0.1, inner_steps=2), make_tasks(1)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    theta, rates = nudged(parameters).chunk(2)
    for _ in range(2 if steps is None else steps):
        gradient = gradient_of(network, network.unflatten(theta), tasks.support[0], tasks.support_labels)
        theta = theta - rates * torch.cat([part.flatten() for part in gradient.values()])
    classify = algorithm.classifier(network, nudged(parameters), tasks.support[0], tasks.support_labels, steps)
    expected = network(network.unflatten(theta), tasks.query[0])
    torch.testing.assert_close(classify(tasks.query[0]), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("inner_lr", "inner_steps"), [(0, 1), (-1, 1), (0.1, 0)])
def test_settings_without_sense_are_refused(inner_lr, inner_steps):
    with pytest.raises(FanfoldError, match=r"`algorithm\.inner_"):
        MetaSgd(inner_lr=inner_lr, inner_steps=inner_steps)
