"""A few tasks computed at once on a CPU are those computed one by one, and their number follows the configuration."""

from dataclasses import replace

import pytest
import torch

from fanfold.tasks.algorithms import maml_vectorized
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
    order = "first" if algorithm.first_order else differentiation
    expected = algorithm.meta_gradient(replace(network, stack=None), parameters, 0, tasks)
    for at_once in (1, CPU_TASKS):
        found = maml_vectorized.meta_gradient(network.stack, parameters, tasks, 0.1, steps, order, at_once)
        assert_agree(found, expected, 1e-11)


def test_small_tasks_are_computed_at_once():
    network, parameters = make_network(Conv4Stride(width=2))
    tasks = make_tasks(3)
    found = Maml(inner_lr=0.01).meta_gradient(network, parameters, 0, tasks)
    expected, one_by_one = (
        maml_vectorized.meta_gradient(network.stack, parameters, tasks, 0.01, 1, "reverse", at_once)
        for at_once in (CPU_TASKS, 1)
    )
    assert torch.equal(found.gradient, expected.gradient)
    assert not torch.equal(found.gradient, one_by_one.gradient)  # two ways, which round otherwise


@pytest.mark.parametrize(
    ("tasks", "steps"),
    [
        (make_tasks(2, shots=CPU_IMAGES // WAYS + 1), 1),
        (make_tasks(2, queries=KEPT // CPU_TASKS // WAYS), 1),
        (make_tasks(2), KEPT // CPU_TASKS // (2 * WAYS)),
    ],
    ids=["many images", "many queries", "many steps"],
)
def test_large_tasks_are_computed_one_by_one(tasks, steps):
    network, parameters = make_network(Conv4Stride(width=2))
    algorithm = Maml(inner_lr=0.01, inner_steps=steps)
    order = "reverse" if len(tasks.support_labels) * steps <= KEPT else "mixed"
    one_by_one = maml_vectorized.meta_gradient(network.stack, parameters, tasks, 0.01, steps, order, 1)
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
