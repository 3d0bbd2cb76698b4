import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.reptile import Reptile, minibatches
from fanfold.tasks.models import Conv4, Conv4Stride
from tests.tasks.reference import gradient_of, make_network, make_tasks


def flat_gradient(network, vector, images, labels):
    gradient = gradient_of(network, network.unflatten(vector), images, labels)
    return torch.cat([part.flatten() for part in gradient.values()])


def labels_of(ways):
    """The labels of six images, class by class."""
    return torch.arange(ways).repeat_interleave(6 // ways)


def test_minibatches_go_shot_by_shot_each_class_in_turn_and_round_again():
    # Two classes of three shots lie 0 1 2 | 3 4 5, so shot by shot they are 0 3 1 4 2 5.
    found = [batch.tolist() for batch in minibatches(labels_of(2), 2, 4, 4)]
    assert found == [[0, 3, 1, 4], [2, 5, 0, 3], [1, 4, 2, 5], [0, 3, 1, 4]]


def test_minibatches_of_unequal_classes_in_any_order_go_shot_by_shot():
    labels = torch.tensor([2, 0, 2, 1, 2, 0])
    assert [batch.tolist() for batch in minibatches(labels, 3, 2, 3)] == [[1, 3, 0], [5, 2, 4]]


def test_a_minibatch_holds_no_image_twice_and_never_more_than_there_are():
    assert [sorted(batch.tolist()) for batch in minibatches(labels_of(3), 3, 2, 10)] == [[0, 1, 2, 3, 4, 5]] * 2
    assert minibatches(labels_of(3), 3, 0, 2) == []
    for batch in minibatches(labels_of(3), 3, 9, 4):
        assert len(set(batch.tolist())) == 4


@pytest.mark.parametrize("model", [Conv4(width=4), Conv4Stride(width=4)], ids=lambda model: model.name)
def test_one_plain_step_on_the_whole_support_set_is_joint_training(model):
    """θ - φ is then the inner rate times the support loss's gradient, summed over the tasks."""
    algorithm = Reptile(inner_lr=0.2, inner_steps=1, inner_batch=6, inner_optimizer="sgd")
    (network, parameters), tasks = make_network(model), make_tasks(2)
    expected = sum(0.2 * flat_gradient(network, parameters, support, tasks.support_labels) for support in tasks.support)
    found = algorithm.meta_gradient(network, parameters, 0, tasks).gradient
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def trained(algorithm, network, parameters, support, labels, steps, batch):
    """The parameters after inner steps, the optimizer's arithmetic written anew in NumPy: Adam without momentum."""
    ways, shots = 3, len(labels) // 3
    round_robin = [way * shots + shot for shot in range(shots) for way in range(ways)]
    phi, square, place = parameters.numpy().copy(), np.zeros(len(parameters)), 0
    for step in range(1, steps + 1):
        images = [round_robin[(place + n) % len(round_robin)] for n in range(min(batch, len(labels)))]
        place += len(images)
        gradient = flat_gradient(network, torch.from_numpy(phi), support[images], labels[images]).numpy()
        if algorithm.inner_optimizer == "sgd":
            phi = phi - algorithm.inner_lr * gradient
            continue
        square = 0.999 * square + 0.001 * gradient**2
        phi = phi - algorithm.inner_lr * gradient / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return torch.from_numpy(phi)


@pytest.mark.parametrize("inner_optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("steps", "batch"), [(1, 6), (4, 4), (3, 10)])
def test_the_meta_gradient_points_from_where_tasks_end_to_where_they_began(inner_optimizer, steps, batch):
    algorithm = Reptile(inner_lr=0.01, inner_steps=steps, inner_batch=batch, inner_optimizer=inner_optimizer)
    (network, parameters), tasks = make_network(Conv4Stride(width=4)), make_tasks(2)
    ends = [
        trained(algorithm, network, parameters, support, tasks.support_labels, steps, batch)
        for support in tasks.support
    ]
    found = algorithm.meta_gradient(network, parameters, 0, tasks)
    torch.testing.assert_close(found.gradient, sum(parameters - end for end in ends), rtol=1e-6, atol=1e-10)
    logits = [network(network.unflatten(end), query) for end, query in zip(ends, tasks.query, strict=True)]
    losses = [cross_entropy(row, tasks.query_labels) for row in logits]
    torch.testing.assert_close(found.losses, torch.stack(losses), rtol=1e-6, atol=1e-8)
    right = [(row.argmax(1) == tasks.query_labels).double().mean() for row in logits]
    assert found.accuracies.tolist() == pytest.approx([float(share) for share in right])


def test_the_optimizer_starts_anew_for_each_task():
    algorithm, (network, parameters), tasks = Reptile(), make_network(Conv4Stride(width=4)), make_tasks(1)
    once = algorithm.meta_gradient(network, parameters, 0, tasks).gradient
    algorithm.meta_gradient(network, parameters, 1, make_tasks(2))
    assert torch.equal(algorithm.meta_gradient(network, parameters, 2, tasks).gradient, once)


@pytest.mark.parametrize("steps", [None, 0, 7])
def test_a_task_is_tested_with_minibatches_of_their_own_size(steps):
    algorithm = Reptile(inner_lr=0.01, inner_steps=3, inner_batch=6, test_batch=2)
    (network, parameters), tasks = make_network(Conv4Stride(width=4)), make_tasks(1)
    support, count = (tasks.support[0], tasks.support_labels), 3 if steps is None else steps
    end = trained(algorithm, network, parameters, *support, count, 2)
    found = algorithm.classifier(network, parameters, *support, steps)(tasks.query[0])
    torch.testing.assert_close(found, network(network.unflatten(end), tasks.query[0]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inner_lr": 0}, "`algorithm.inner_lr` must be above 0"),
        ({"inner_steps": 0}, "`algorithm.inner_steps` must be at least 1"),
        ({"inner_batch": 1}, "`algorithm.inner_batch` must be at least 2"),
        ({"test_batch": 1}, "`algorithm.test_batch` must be at least 2"),
    ],
)
def test_settings_without_sense_are_refused(wrong, message):
    with pytest.raises(FanfoldError, match=message):
        Reptile(**wrong)
