import pytest
import torch
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.parameters import flatten
from fanfold.tasks.predict import predict
from tests.tasks.reference import WAYS, along, finite_differences, make_network, make_tasks, relative_error


def query_loss(algorithm, network, parameters, tasks):
    """The sum of the tasks' query losses after adaptation by plain gradient descent, written anew."""
    total = 0.0
    for support, query in zip(tasks.support, tasks.query, strict=True):
        weights = parameters.clone()
        for _ in range(algorithm.inner_steps):
            leaf = weights.clone().requires_grad_()
            cross_entropy(network(network.unflatten(leaf), support), tasks.support_labels).backward()
            weights = weights - algorithm.inner_lr * leaf.grad
        with torch.no_grad():
            total += float(cross_entropy(network(network.unflatten(weights), query), tasks.query_labels))
    return total


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("model", [Conv4(width=2), Conv4Stride(width=2)], ids=lambda model: model.name)
def test_the_meta_gradient_is_that_of_finite_differences(model, inner_steps):
    algorithm = Maml(inner_lr=0.1, inner_steps=inner_steps)
    network, parameters = make_network(model)
    tasks = make_tasks(1)
    exact = algorithm.meta_gradient(network, parameters, 0, tasks).gradient
    numeric = finite_differences(lambda vector: query_loss(algorithm, network, vector, tasks), parameters)
    assert relative_error(along(exact), numeric) < 1e-6
    shortened = Maml(inner_lr=0.1, inner_steps=inner_steps, first_order=True)
    inexact = shortened.meta_gradient(network, parameters, 0, tasks).gradient
    assert relative_error(along(inexact), numeric) > 1e-3


def test_a_chunks_sum_is_the_sum_over_its_tasks():
    algorithm, (network, parameters), tasks = Maml(inner_steps=2), make_network(Conv4(width=4)), make_tasks(5)
    whole = algorithm.meta_gradient(network, parameters, 0, tasks)
    parts = [
        algorithm.meta_gradient(
            network,
            parameters,
            0,
            TaskBatch(tasks.support[n : n + 1], tasks.support_labels, tasks.query[n : n + 1], tasks.query_labels),
        )
        for n in range(5)
    ]
    torch.testing.assert_close(whole.gradient, sum(part.gradient for part in parts), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(whole.losses, torch.cat([part.losses for part in parts]), rtol=1e-12, atol=0)
    assert torch.equal(whole.accuracies, torch.cat([part.accuracies for part in parts]))
    expected = query_loss(algorithm, network, parameters, tasks)
    assert whole.losses.sum().item() == pytest.approx(expected, rel=1e-12)


def test_first_order_takes_the_gradient_where_the_inner_steps_ended():
    algorithm, (network, parameters), tasks = Maml(first_order=True), make_network(Conv4Stride(width=4)), make_tasks(1)
    start = parameters.clone().requires_grad_()
    cross_entropy(network(network.unflatten(start), tasks.support[0]), tasks.support_labels).backward()
    end = (parameters - algorithm.inner_lr * start.grad).requires_grad_()
    cross_entropy(network(network.unflatten(end), tasks.query[0]), tasks.query_labels).backward()
    found = algorithm.meta_gradient(network, parameters, 0, tasks).gradient
    torch.testing.assert_close(found, end.grad, rtol=1e-12, atol=1e-14)


def test_permuting_classes_and_head_rows_permutes_the_predictions():
    algorithm, (network, parameters), tasks = (
        Maml(inner_steps=3),
        make_network(Conv4(width=4)),
        make_tasks(1, ways=WAYS),
    )
    order = torch.tensor([2, 0, 1])
    named = dict(network.unflatten(parameters.clone()))
    named |= {name: named[name][order] for name in ("head.weight", "head.bias")}
    relabelled = torch.argsort(order)[tasks.support_labels]
    before = algorithm.classifier(network, parameters, tasks.support[0], tasks.support_labels, None)(tasks.query[0])
    after = algorithm.classifier(network, flatten(named), tasks.support[0], relabelled, None)(tasks.query[0])
    torch.testing.assert_close(after, before[:, order], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(after, before)


def test_more_inner_steps_fit_the_support_set_better():
    algorithm, (network, parameters), tasks = Maml(inner_lr=0.2), make_network(Conv4Stride(width=8)), make_tasks(1)
    losses = []
    for steps in (0, 1, 5, 20):
        classify = algorithm.classifier(network, parameters, tasks.support[0], tasks.support_labels, steps)
        losses.append(cross_entropy(classify(tasks.support[0]), tasks.support_labels).item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 * losses[0]


def test_evaluation_scores_each_task_after_adaptation():
    algorithm, (network, parameters), tasks = Maml(inner_lr=0.2), make_network(Conv4Stride(width=8)), make_tasks(4)
    same = TaskBatch(tasks.support, tasks.support_labels, tasks.support, tasks.support_labels)
    assert predict(algorithm, network, parameters, same, 30, "batch").accuracies.tolist() == [1.0] * 4
    untrained = predict(algorithm, network, parameters, same, 0, "batch").accuracies
    assert untrained.mean() < 1
    assert set((untrained * 6).round().tolist()) <= set(range(7))


def test_parameters_are_left_as_they_were():
    algorithm, (network, parameters), tasks = Maml(), make_network(Conv4(width=4)), make_tasks(2)
    before = parameters.clone()
    algorithm.meta_gradient(network, parameters, 0, tasks)
    predict(algorithm, network, parameters, tasks, 2, "batch")
    assert torch.equal(parameters, before)
    assert not parameters.requires_grad


@pytest.mark.parametrize(("inner_lr", "inner_steps"), [(0, 1), (-1, 1), (0.1, 0)])
def test_settings_without_sense_are_refused(inner_lr, inner_steps):
    with pytest.raises(FanfoldError, match=r"`algorithm\.inner_"):
        Maml(inner_lr=inner_lr, inner_steps=inner_steps)
