"""A few tasks computed at once on a CPU are those computed one after another, and it is told by the configuration."""

from dataclasses import replace

import pytest
import torch

from fanfold.tasks.algorithms.maml import CPU_IMAGES, CPU_TASKS, Maml
from fanfold.tasks.algorithms.support_loss import KEPT
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from tests.tasks.reference import WAYS, assert_agree, make_network, make_tasks, nudged

MODELS = [Conv4(width=4), Conv4Stride(width=4), Conv4Stride(width=4, reduce="flatten"), Article(width=3, hidden=7)]


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("differentiation", ["reverse", "mixed", "first order"])
@pytest.mark.parametrize("steps", [1, 3])
def test_tasks_computed_at_once_are_those_computed_one_by_one(model, differentiation, steps):
    exact = {} if differentiation == "first order" else {"differentiation": differentiation}
    algorithm = Maml(inner_lr=0.1, inner_steps=steps, first_order=not exact, **exact)
    network, parameters = make_network(model)
    parameters, tasks = nudged(parameters), make_tasks(CPU_TASKS + 1)  # in two parts, of different sizes
    expected = algorithm.meta_gradient(replace(network, wide=None), parameters, 0, tasks)
    found = algorithm.meta_gradient(network, parameters, 0, tasks)
    assert_agree(found, expected, 1e-11)
    assert not torch.equal(found.gradient, expected.gradient)  # two ways, which round otherwise


@pytest.mark.parametrize(
    ("tasks", "steps"),
    [
        (make_tasks(1), 1),
        (make_tasks(2, shots=CPU_IMAGES // WAYS + 1), 1),
        (make_tasks(2, queries=KEPT // CPU_TASKS // WAYS), 1),
        (make_tasks(2), KEPT // CPU_TASKS // (2 * WAYS)),
    ],
    ids=["one task", "many images", "many queries", "many steps"],
)
def test_one_task_alone_and_large_tasks_are_computed_one_by_one(tasks, steps):
    network, parameters = make_network(Conv4Stride(width=2))
    algorithm = Maml(inner_lr=0.01, inner_steps=steps)
    one_by_one = algorithm.meta_gradient(replace(network, wide=None), parameters, 0, tasks)
    assert torch.equal(algorithm.meta_gradient(network, parameters, 0, tasks).gradient, one_by_one.gradient)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (4, [4]), (5, [3, 2]), (8, [4, 4]), (9, [3, 3, 3])])
def test_parts_are_even(count, sizes):
    tasks = make_tasks(count)
    parts = tasks.parts(4)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat([part.query for part in parts]), tasks.query)
    assert all(part.ways == tasks.ways for part in parts)


def test_what_is_not_a_number_shows():
    network, parameters = make_network(Conv4(width=4))
    tasks = make_tasks(3)
    tasks.support[1] = float("nan")
    found = Maml().meta_gradient(network, parameters, 0, tasks)
    assert found.losses.isnan().tolist() == [False, True, False]
    assert found.gradient.isnan().any()
