"""The defaults of the base class, and tests of every algorithm."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import Algorithm, MetaGradient, sum_parts
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.registry import ALGORITHMS
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.heads import with_ways
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.network import as_network
from fanfold.tasks.parameters import flatten, unflatten
from fanfold.tasks.predict import predict
from tests.tasks.every_algorithm import EVERY, FITTED, GRADIENT_LEARNERS, each
from tests.tasks.reference import (
    SIZE,
    WAYS,
    Headless,
    Small,
    make_network,
    make_tasks,
    nudged,
    one_task,
    permuted,
    start,
)


@dataclass(frozen=True)
class Shrink(Algorithm):
    """An algorithm that defines no more than it must."""

    factor: float = 0.5

    def meta_gradient(self, network, parameters, iteration, tasks):
        return MetaGradient(self.factor * parameters + iteration, torch.ones(len(tasks)), torch.zeros(len(tasks)))

    def classifier(self, network, parameters, support, labels, steps):
        return lambda query: network(network.unflatten(parameters), query)


@dataclass(frozen=True)
class SteadyShrink(Shrink):
    steady = True


def test_an_algorithm_needs_a_meta_gradient_and_a_classifier_only():
    algorithm, tasks = Shrink("shrink"), make_tasks(2)
    network, parameters = make_network(Small())
    assert (algorithm.name, algorithm.factor) == ("shrink", 0.5)
    assert algorithm.head
    assert algorithm.vectorizes
    assert algorithm.normalizations == ("batch", "single")
    assert torch.equal(algorithm.initialize(network), flatten(network.initial()))
    assert algorithm.logits(network, parameters, tasks, None) is None
    assert not algorithm.defines_logits
    assert EVERY["maml"].defines_logits
    assert (algorithm.phase(0), list(algorithm.numbers(7))) == (None, [])


def test_iterations_of_a_steady_algorithm_are_one_phase_and_like_the_first():
    algorithm, tasks = SteadyShrink("shrink"), make_tasks(2)
    network, parameters = make_network(Small())
    assert algorithm.phase(0) == algorithm.phase(9) == ()
    found = algorithm.gradient_in_phase((), torch.zeros(0), network, parameters, tasks)
    assert torch.equal(found.gradient, algorithm.meta_gradient(network, parameters, 0, tasks).gradient)


def test_an_algorithm_without_a_classifier_cannot_be_made():
    class Half(Shrink):
        classifier = Algorithm.classifier

    with pytest.raises(TypeError, match="abstract"):
        Half("half")


def test_parts_are_summed_in_their_order():
    parts = [
        MetaGradient(torch.full([2], 10.0**place), torch.full([1], float(place)), torch.ones(1)) for place in range(3)
    ]
    found = sum_parts(parts)
    assert found.gradient.tolist() == [111, 111]
    assert found.losses.tolist() == [0, 1, 2]
    assert found.accuracies.tolist() == [1, 1, 1]


def test_every_algorithm_is_tested_here():
    found = [*EVERY.values(), *FITTED.values()]  # these in test_fitted
    assert {type(algorithm) for algorithm in found} == set(ALGORITHMS.values())
    assert {algorithm.name for algorithm in found} == set(ALGORITHMS)
    assert all(made().name == name for name, made in ALGORITHMS.items())


@each(EVERY)
def test_a_chunks_sum_is_the_sum_over_its_tasks(algorithm):
    tasks = make_tasks(4)
    network, parameters = start(algorithm, Conv4(width=3))
    whole = algorithm.meta_gradient(network, parameters, 3, tasks)
    parts = [algorithm.meta_gradient(network, parameters, 3, one_task(tasks, place)) for place in range(4)]
    torch.testing.assert_close(whole.gradient, sum(part.gradient for part in parts), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(whole.losses, torch.cat([part.losses for part in parts]), rtol=1e-12, atol=0)
    assert torch.equal(whole.accuracies, torch.cat([part.accuracies for part in parts]))
    assert whole.gradient.shape == parameters.shape
    assert not torch.allclose(parts[0].gradient, parts[1].gradient)
    assert not whole.gradient.requires_grad
    assert not whole.losses.requires_grad


@each(EVERY)
def test_parameters_are_left_as_they_were_and_give_the_same_again(algorithm):
    tasks = make_tasks(2)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    before, module = parameters.clone(), copy.deepcopy(network.module.state_dict())
    results = []
    for _ in range(2):
        found = algorithm.meta_gradient(network, parameters, 3, tasks)
        results.append(
            (
                found.gradient,
                found.losses,
                torch.from_numpy(predict(algorithm, network, parameters, tasks, 2, "batch").accuracies),
            )
        )
        assert torch.equal(parameters, before)
        assert not parameters.requires_grad
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    after = network.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in module.items())


@each({name: algorithm for name, algorithm in EVERY.items() if name != "matching context"})
def test_permuting_classes_permutes_the_predictions(algorithm):
    """Where the network's own head classifies, its rows go along with the classes."""
    order, tasks = torch.tensor([2, 0, 1]), make_tasks(1)
    network, parameters = start(algorithm, Conv4(width=4))
    module = copy.deepcopy(network.module)
    if algorithm.head:
        with torch.no_grad():
            for value in (module.head.weight, module.head.bias):
                value.copy_(value[order])
    other = as_network(module, SIZE, WAYS if algorithm.head else None)
    support, labels = tasks.support[0], tasks.support_labels
    before = algorithm.classifier(network, parameters, support, labels, None)(tasks.query[0])
    classify = algorithm.classifier(other, algorithm.initialize(other), permuted(support, order), labels, None)
    after = classify(tasks.query[0])
    torch.testing.assert_close(after, before[:, order], rtol=1e-8, atol=1e-10)
    assert not torch.allclose(after, before)


@each(GRADIENT_LEARNERS)
def test_any_number_of_inner_steps_may_be_tested(algorithm):
    tasks = make_tasks(2)
    network, parameters = start(algorithm, Conv4Stride(width=4))
    support, labels = tasks.support[0], tasks.support_labels
    losses = []
    for steps in (0, 1, 10, 40):
        classify = algorithm.classifier(network, parameters, support, labels, steps)
        losses.append(cross_entropy(classify(support), labels).item())
    assert losses[-1] < losses[0]
    assert len({round(loss, 12) for loss in losses}) == 4
    # Before the first step it is the network as it was initialized.
    assert losses[0] == pytest.approx(cross_entropy(network(network.initial(), support), labels).item())


class OwnHeadless:
    """A network of one's own without a linear layer."""

    def build(self, ways, size):
        return Headless(ways)


MODELS = {"norm": Small(), "no norm": Small(norm=False), "no linear layer": OwnHeadless()}


def tasks_to_learn():
    """Two tasks of the same three classes: ink on the left, at the top, and all over, and noise."""
    tasks = make_tasks(2)
    pattern = torch.zeros(WAYS, 1, *SIZE, dtype=torch.float64)
    pattern[0, :, :, :8], pattern[1, :, :8], pattern[2] = 1, 1, 0.5
    support, query = (
        0.3 * images + pattern[labels]
        for images, labels in ((tasks.support, tasks.support_labels), (tasks.query, tasks.query_labels))
    )
    return TaskBatch(support, tasks.support_labels, query, tasks.query_labels)


@pytest.mark.parametrize("model", MODELS)
@each(EVERY)
def test_a_network_of_ones_own_is_trained(algorithm, model):
    if isinstance(algorithm, Anil) and model == "no linear layer":
        pytest.skip("ANIL refuses it, see test_anil")
    tasks = tasks_to_learn()
    network, parameters = start(algorithm, MODELS[model])
    assert parameters.dtype == torch.float64
    parameters = nn.Parameter(parameters)
    optimizer, losses = torch.optim.Adam([parameters], lr=0.02), []
    for _ in range(20):
        found = algorithm.meta_gradient(network, parameters.detach(), 20, tasks)
        losses.append(float(found.losses.sum()))
        parameters.grad = found.gradient
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@each(EVERY)
@pytest.mark.parametrize("labels", [[0, 1, 2, 1, 2, 2], [2, 0, 1, 2, 1, 2], [0, 0, 1, 1, 2, 2]])
def test_labels_come_in_any_order_and_number(algorithm, labels):
    """As in one's own folders: sorted or not, each class with as many images as there are."""
    tasks, labels = make_tasks(1), torch.tensor(labels)
    network, parameters = start(algorithm, Conv4(width=4))
    support, query = tasks.support[0], tasks.query[0]
    logits = algorithm.classifier(network, parameters, support, labels, None)(query)
    order = labels.argsort(stable=True)
    by_class = algorithm.classifier(network, parameters, support[order], labels[order], None)(query)
    assert logits.shape == (len(query), WAYS)
    torch.testing.assert_close(logits, by_class, rtol=1e-8, atol=1e-10)
    moved = algorithm.classifier(network, parameters, support, labels.roll(1), None)(query)
    assert not torch.allclose(moved, logits)


@each(GRADIENT_LEARNERS)
def test_a_network_that_learnt_a_task_classifies_as_its_classifier_does(algorithm):
    tasks = make_tasks(1)
    network, parameters = start(algorithm, Conv4(width=4))
    task = tasks.support[0], tasks.support_labels, None
    theta = algorithm.adapted(network, parameters, *task)
    assert {name: value.shape for name, value in theta.items()} == dict(network.shapes)
    classify = algorithm.classifier(network, parameters, *task)
    torch.testing.assert_close(network(theta, tasks.query[0]), classify(tasks.query[0]))


HEAD = {"out.weight", "out.bias", "out.weight:inner_lr", "out.bias:inner_lr"}


@each(GRADIENT_LEARNERS)
@pytest.mark.parametrize("ways", [2, 5])
def test_a_head_for_other_ways_has_the_trained_heads_mean_in_every_row(algorithm, ways):
    network, parameters = start(algorithm, Small())
    other, _ = make_network(Small(), ways)
    parameters = nudged(parameters)
    found = with_ways(parameters, algorithm.shapes(network), algorithm.shapes(other))
    before = unflatten(algorithm.shapes(network), parameters)
    after = unflatten(algorithm.shapes(other), found)
    for name, value in after.items():
        of_head = value.shape != before[name].shape
        assert name in HEAD or not of_head
        assert torch.equal(value, before[name].mean(0, keepdim=True).expand(value.shape) if of_head else before[name])
    assert after["out.weight"].shape == (ways, 36 // 2)
    labels = torch.arange(ways).repeat_interleave(2)
    support = make_tasks(1, ways=ways).support[0]
    logits = algorithm.classifier(other, found, support, labels, 0)(support)
    torch.testing.assert_close(logits, logits[:, :1].expand_as(logits))
    losses = [
        cross_entropy(algorithm.classifier(other, found, support, labels, steps)(support), labels).item()
        for steps in (0, 20)
    ]
    assert losses[1] < losses[0]
