"""Predictions of every algorithm for the queries of tasks."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4Stride
from fanfold.tasks.network import batch_statistics, with_statistics
from fanfold.tasks.predict import predict
from tests.tasks.every_algorithm import EVERY, GRADIENT_LEARNERS, METRIC_LEARNERS, each
from tests.tasks.reference import SIZE, WAYS, make_tasks, start


def first_labels(algorithm, network, parameters, tasks, normalization):
    """The predicted label of each task's first query."""
    return predict(algorithm, network, parameters, tasks, None, normalization).labels[:, 0, 0].tolist()


def with_other_queries(tasks, count):
    """The same tasks with all but the first query replaced by some others for each class, of another contrast."""
    shape, generator = (len(tasks), WAYS * count - 1, 1, *SIZE), torch.Generator().manual_seed(6)
    others = 3 * torch.rand(shape, generator=generator).double() - 1
    query = torch.cat([tasks.query[:, :1], others], 1)
    return TaskBatch(tasks.support, tasks.support_labels, query, torch.arange(WAYS).repeat_interleave(count))


@each(GRADIENT_LEARNERS)
def test_normalized_singly_a_query_depends_on_no_other(algorithm):
    assert algorithm.normalizations == ("batch", "single")
    tasks = make_tasks(16)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    together = first_labels(algorithm, network, parameters, tasks, "batch")
    alone = first_labels(algorithm, network, parameters, tasks, "single")
    for count in (2, 1):
        assert first_labels(algorithm, network, parameters, with_other_queries(tasks, count), "single") == alone
    assert first_labels(algorithm, network, parameters, with_other_queries(tasks, 2), "batch") != together


@each(METRIC_LEARNERS)
def test_normalized_by_the_populations_statistics_a_query_depends_on_no_other(algorithm):
    assert algorithm.normalizations == ("population", "batch")
    tasks = make_tasks(16)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    images = make_tasks(6).support.flatten(0, 1)
    still = with_statistics(network, batch_statistics(network, network.own(parameters), images))
    together = first_labels(algorithm, network, parameters, tasks, "batch")
    alone = first_labels(algorithm, still, parameters, tasks, "population")
    for count in (2, 1):
        assert first_labels(algorithm, still, parameters, with_other_queries(tasks, count), "population") == alone
    assert first_labels(algorithm, network, parameters, with_other_queries(tasks, 2), "batch") != together


@each(GRADIENT_LEARNERS)
def test_normalized_singly_a_query_is_normalized_with_the_support_set(algorithm):
    tasks = make_tasks(3)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    expected = []
    for support, query in zip(tasks.support, tasks.query, strict=True):
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, None)
        with torch.no_grad():
            labels = [int(classify(torch.cat([support, image[None]]))[-1].argmax()) for image in query]
        right = [found == label for found, label in zip(labels, tasks.query_labels.tolist(), strict=True)]
        expected.append(sum(right) / len(right))
    found = predict(algorithm, network, parameters, tasks, None, "single").accuracies
    assert found.tolist() == pytest.approx(expected)


@each(EVERY)
def test_predictions_follow_from_the_logits(algorithm):
    tasks = make_tasks(3)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    found = predict(algorithm, network, parameters, tasks, None, "batch")
    assert found.labels.shape == found.confidences.shape == (3, WAYS, len(tasks.query_labels) // WAYS)
    for place, (support, query) in enumerate(zip(tasks.support, tasks.query, strict=True)):
        classify = algorithm.classifier(network, parameters, support, tasks.support_labels, None)
        with torch.no_grad():
            logits = classify(query)
        probability, label = logits.softmax(1).max(1)
        assert found.labels[place].ravel().tolist() == label.tolist()
        assert found.confidences[place].ravel() == pytest.approx(probability.numpy(), rel=1e-5)
        assert found.losses[place] == pytest.approx(cross_entropy(logits, tasks.query_labels).item(), rel=1e-5)
        assert found.accuracies[place] == (label == tasks.query_labels).double().mean().item()


@each(METRIC_LEARNERS)
def test_where_there_are_no_inner_steps_none_are_asked_for(algorithm):
    tasks = make_tasks(2)
    network, parameters = start(algorithm, Conv4Stride(width=4))
    found = [
        predict(algorithm, network, parameters, tasks, steps, "batch").accuracies.tolist() for steps in (None, 0, 7)
    ]
    assert found[0] == found[1] == found[2]
