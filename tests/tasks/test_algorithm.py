"""What holds for every algorithm."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import answer_tasks
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.registry import ALGORITHMS
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.network import as_network, batch_statistics, with_statistics
from tests.tasks.reference import SIZE, WAYS, Headless, Small, make_tasks, one_task, permuted, start

INNER = {"inner_lr": 0.1, "inner_steps": 2}
GRADIENT_LEARNERS = {
    "maml": Maml(**INNER),
    "maml first order": Maml(**INNER, first_order=True),
    "anil": Anil(**INNER),
    "maml++": MamlPlusPlus(**INNER, multi_step=10),
    "maml++ plain": MamlPlusPlus(**INNER, learn_rates=False, norm_per_step=False, multi_step=0, first_order=10),
    "meta-sgd": MetaSgd(**INNER),
    "reptile": Reptile(inner_steps=3, inner_lr=0.01, inner_batch=3, test_batch=3),
    "reptile sgd": Reptile(**INNER, inner_batch=6, test_batch=6, inner_optimizer="sgd"),
}
METRIC_LEARNERS = {
    "protonet": ProtoNet(),
    "protonet every turn": ProtoNet(every_turn=True),
    "matching": Matching(),
    "matching every turn": Matching(every_turn=True),
    "matching euclidean": Matching(similarity="euclidean"),
    "matching context": Matching(full_context=True),
}
EVERY = GRADIENT_LEARNERS | METRIC_LEARNERS


def each(algorithms):
    return pytest.mark.parametrize("algorithm", algorithms.values(), ids=algorithms.keys())


def test_every_algorithm_is_tested_here():
    assert {type(algorithm) for algorithm in EVERY.values()} == set(ALGORITHMS.values())
    assert {algorithm.name for algorithm in EVERY.values()} == set(ALGORITHMS)
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
                torch.from_numpy(answer_tasks(algorithm, network, parameters, tasks, 2, "batch").accuracies),
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


def first_answers(algorithm, network, parameters, tasks, normalization):
    """The class that each task's first query is taken for."""
    return answer_tasks(algorithm, network, parameters, tasks, None, normalization).guesses[:, 0, 0].tolist()


def with_other_queries(tasks, count):
    """The same tasks with all but the first query replaced by some others for each class, of another contrast."""
    shape, generator = (len(tasks), WAYS * count - 1, 1, *SIZE), torch.Generator().manual_seed(6)
    others = 3 * torch.rand(shape, generator=generator).double() - 1
    query = torch.cat([tasks.query[:, :1], others], 1)
    return TaskBatch(tasks.support, tasks.support_labels, query, torch.arange(WAYS).repeat_interleave(count))


@each(GRADIENT_LEARNERS)
def test_judged_singly_a_query_depends_on_no_other(algorithm):
    assert algorithm.normalizations == ("batch", "single")
    tasks = make_tasks(16)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    together = first_answers(algorithm, network, parameters, tasks, "batch")
    alone = first_answers(algorithm, network, parameters, tasks, "single")
    for count in (2, 1):
        assert first_answers(algorithm, network, parameters, with_other_queries(tasks, count), "single") == alone
    assert first_answers(algorithm, network, parameters, with_other_queries(tasks, 2), "batch") != together


@each(METRIC_LEARNERS)
def test_judged_by_the_populations_statistics_a_query_depends_on_no_other(algorithm):
    assert algorithm.normalizations == ("population", "batch")
    tasks = make_tasks(16)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    images = make_tasks(6).support.flatten(0, 1)
    still = with_statistics(network, batch_statistics(network, network.own(parameters), images))
    together = first_answers(algorithm, network, parameters, tasks, "batch")
    alone = first_answers(algorithm, still, parameters, tasks, "population")
    for count in (2, 1):
        assert first_answers(algorithm, still, parameters, with_other_queries(tasks, count), "population") == alone
    assert first_answers(algorithm, network, parameters, with_other_queries(tasks, 2), "batch") != together


@each(GRADIENT_LEARNERS)
def test_judged_singly_a_query_is_normalized_with_the_support_set(algorithm):
    tasks = make_tasks(3)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    expected = []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, None)
        with torch.no_grad():
            answers = [int(classify(torch.cat([support, image[None]]))[-1].argmax()) for image in query]
        right = [answer == label for answer, label in zip(answers, tasks.query_labels.tolist(), strict=True)]
        expected.append(sum(right) / len(right))
    found = answer_tasks(algorithm, network, parameters, tasks, None, "single").accuracies
    assert found.tolist() == pytest.approx(expected)


@each(EVERY)
def test_answers_are_those_of_the_logits(algorithm):
    tasks = make_tasks(3)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    found = answer_tasks(algorithm, network, parameters, tasks, None, "batch")
    assert found.guesses.shape == found.confidences.shape == (3, WAYS, len(tasks.query_labels) // WAYS)
    for place, (support, query) in enumerate(zip(tasks.support, tasks.query, strict=True)):
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, None)
        with torch.no_grad():
            logits = classify(query)
        probability, guess = logits.softmax(1).max(1)
        assert found.guesses[place].ravel().tolist() == guess.tolist()
        assert found.confidences[place].ravel() == pytest.approx(probability.numpy(), rel=1e-5)
        assert found.losses[place] == pytest.approx(cross_entropy(logits, tasks.query_labels).item(), rel=1e-5)
        assert found.accuracies[place] == (guess == tasks.query_labels).double().mean().item()


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


@each(METRIC_LEARNERS)
def test_where_there_are_no_inner_steps_none_are_asked_for(algorithm):
    tasks = make_tasks(2)
    network, parameters = start(algorithm, Conv4Stride(width=4))
    found = [
        answer_tasks(algorithm, network, parameters, tasks, steps, "batch").accuracies.tolist()
        for steps in (None, 0, 7)
    ]
    assert found[0] == found[1] == found[2]


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
