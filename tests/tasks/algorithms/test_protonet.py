from math import exp, log

import pytest
import torch

from fanfold.tasks.algorithms.protonet import ProtoNet, squared_distances
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4, Conv4Stride
from tests.tasks.reference import WAYS, assert_exact, make_network, make_tasks, one_task, squared_distance


def episode_loss(support, query):
    """The mean of -log p of the true class; embeddings by class: `[ways][shots or queries]`."""
    prototypes = [sum(points) / len(points) for points in support]
    losses = []
    for label, points in enumerate(query):
        for point in points:
            distances = [float(squared_distance(point, prototype)) for prototype in prototypes]
            losses.append(distances[label] + log(sum(exp(-distance) for distance in distances)))
    return sum(losses) / len(losses)


def turned_losses(embedding, shots, *, every):
    """The episode loss at every turn, from embeddings by class and drawing: `shots` neighbours are the support."""
    drawings = len(embedding[0])
    found = []
    for turn in range(drawings if every else 1):
        chosen = [(turn + n) % drawings for n in range(shots)]
        others = [place for place in range(drawings) if place not in chosen]
        found.append(
            episode_loss(
                [[row[n] for n in chosen] for row in embedding], [[row[n] for n in others] for row in embedding]
            )
        )
    return found


def embed(network, vector, support, query, ways=WAYS):
    """Embeddings `[ways][drawings]` of a task's images, all in one batch."""
    with torch.no_grad():
        together = network(network.unflatten(vector), torch.cat([support, query]))
    of_support, of_query = together[: len(support)], together[len(support) :]
    return [[*part] for part in torch.cat([of_support.unflatten(0, (ways, -1)), of_query.unflatten(0, (ways, -1))], 1)]


@pytest.mark.parametrize("every_turn", [False, True], ids=["first turn", "every turn"])
@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("model", [Conv4(width=3), Conv4Stride(width=3)], ids=lambda model: model.name)
def test_the_meta_gradient_is_that_of_finite_differences(model, shots, every_turn):
    algorithm, (network, parameters) = ProtoNet(every_turn=every_turn), make_network(model, None)
    tasks = make_tasks(1, shots=shots, queries=2)

    def loss(vector, support, query):
        losses = turned_losses(embed(network, vector, support, query), shots, every=every_turn)
        return sum(losses) / len(losses)

    assert_exact(algorithm, network, parameters, tasks, loss)


@pytest.mark.parametrize("shots", [1, 2])
def test_every_turn_is_the_mean_over_the_episodes_one_by_one(shots):
    """Each episode is built as a task of its own; batch norm sees the same images in each of them."""
    (network, parameters), tasks = make_network(Conv4(width=4), None), make_tasks(1, shots=shots, queries=2)
    drawings = torch.cat(
        [tasks.support[0].unflatten(0, (WAYS, -1)), tasks.query[0].unflatten(0, (WAYS, -1))], 1
    )  # [ways, drawings, 1, 16, 16]
    episodes = []
    for turn in range(shots + 2):
        rolled = drawings.roll(-turn, 1)
        support, query = rolled[:, :shots].flatten(0, 1)[None], rolled[:, shots:].flatten(0, 1)[None]
        episode = TaskBatch(support, tasks.support_labels, query, tasks.query_labels)
        episodes.append(ProtoNet().meta_gradient(network, parameters, 0, episode))
    found = ProtoNet(every_turn=True).meta_gradient(network, parameters, 0, tasks)
    mean = sum(episode.gradient for episode in episodes) / len(episodes)
    torch.testing.assert_close(found.gradient, mean, rtol=1e-9, atol=1e-12)
    assert found.losses.item() == pytest.approx(sum(part.losses.item() for part in episodes) / len(episodes))
    assert found.accuracies.item() == pytest.approx(sum(part.accuracies.item() for part in episodes) / len(episodes))
    assert len({round(part.losses.item(), 9) for part in episodes}) == len(episodes)


def test_with_one_shot_it_is_the_nearest_neighbour():
    (network, parameters), tasks = make_network(Conv4(width=4), None), make_tasks(8, shots=1, queries=3)
    nearest, right = [], []
    for place in range(8):
        support, query = tasks.support[place], tasks.query[place]
        rows = embed(network, parameters, support, query)
        distances = [
            [float(squared_distance(point, row[0])) for row in rows] for points in rows for point in points[1:]
        ]
        logits = ProtoNet().classifier(network, parameters, support, tasks.support_labels, None)(query)
        torch.testing.assert_close(logits, -torch.tensor(distances, dtype=torch.float64), rtol=1e-9, atol=1e-12)
        nearest += [row.index(min(row)) for row in distances]
        assert logits.argmax(1).tolist() == nearest[-len(query) :]
        right.append(sum(a == b for a, b in zip(nearest[-9:], tasks.query_labels.tolist(), strict=True)) / 9)
        found = ProtoNet().meta_gradient(network, parameters, 0, one_task(tasks, place))
        assert found.accuracies.item() == pytest.approx(right[-1])
    assert set(nearest) == {0, 1, 2}


def test_a_class_of_several_shots_is_the_mean_of_their_embeddings():
    (network, parameters), tasks = make_network(Conv4Stride(width=4), None), make_tasks(1, shots=3, queries=2)
    rows = embed(network, parameters, tasks.support[0], tasks.query[0])
    expected = [
        [-float(squared_distance(point, sum(row[:3]) / 3)) for row in rows] for points in rows for point in points[3:]
    ]
    classify = ProtoNet().classifier(network, parameters, tasks.support[0], tasks.support_labels, None)
    found = classify(tasks.query[0])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_tasks_may_be_tested_with_more_ways_than_were_trained_with():
    (network, parameters), tasks = make_network(Conv4(width=4), None), make_tasks(1, ways=7)
    classify = ProtoNet().classifier(network, parameters, tasks.support[0], tasks.support_labels, None)
    assert classify(tasks.query[0]).shape == (14, 7)
    assert classify(tasks.query[0][:1]).shape == (1, 7)


def test_distances_are_those_of_a_loop():
    points, others = torch.rand(4, 3, dtype=torch.float64), torch.rand(2, 5, 3, dtype=torch.float64)
    found = squared_distances(points, others)
    assert found.shape == (2, 4, 5)
    for turn in range(2):
        for n in range(4):
            for m in range(5):
                assert found[turn, n, m].item() == pytest.approx(squared_distance(points[n], others[turn, m]).item())
