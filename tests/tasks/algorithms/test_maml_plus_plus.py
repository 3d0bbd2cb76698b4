from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.network import Network
from tests.tasks.reference import (
    Small,
    along,
    assert_exact,
    cut,
    finite_differences,
    gradient_of,
    loss_of,
    make_network,
    make_tasks,
    nudged,
    relative_error,
    start,
)


def is_norm(name):
    """Whether a parameter of the networks used here is a scale or a shift: in their blocks, those come second."""
    return name.startswith("features.") and name.split(".")[2] == "1"


def layout(algorithm, network, norm=is_norm):
    """Names and shapes of the meta-parameters: scales and shifts of each step's own, rates after the network's."""
    own = {name for name in network.shapes if algorithm.norm_per_step and norm(name)}
    shapes = [
        (name, (algorithm.inner_steps, *shape) if name in own else shape) for name, shape in network.shapes.items()
    ]
    if algorithm.learn_rates:
        shapes += [(f"rate of {name}", (algorithm.inner_steps,)) for name in network.shapes if name not in own]
    return own, shapes


def adapted(algorithm, network, vector, support, labels, steps, norm=is_norm):
    """The network's parameters after each of some steps, written anew; those beyond the last are like the last."""
    own, shapes = layout(algorithm, network, norm)
    meta = cut(vector, shapes)
    weights, seen = {name: meta[name] for name in network.shapes}, []
    for count in range(steps):
        step = min(count, algorithm.inner_steps - 1)
        weights = {name: meta[name][step] if name in own else value for name, value in weights.items()}
        gradient = gradient_of(network, weights, support, labels)
        for name in weights:
            rate = meta[f"rate of {name}"][step] if algorithm.learn_rates and name not in own else algorithm.inner_lr
            weights = weights if name in own else {**weights, name: weights[name] - rate * gradient[name]}
        seen.append(weights)
    return seen


def losses_of(algorithm, network, tasks, norm=is_norm):
    """What gives the query losses after each step."""

    def losses(vector, support, query):
        seen = adapted(algorithm, network, vector, support, tasks.support_labels, algorithm.inner_steps, norm)
        return torch.tensor([loss_of(network, theta, query, tasks.query_labels) for theta in seen], dtype=vector.dtype)

    return losses


def reference_loss(algorithm, network, tasks, weights, norm=is_norm):
    """The weighted sum of the query losses after each step."""
    losses = losses_of(algorithm, network, tasks, norm)
    return lambda vector, support, query: losses(vector, support, query) @ torch.tensor(weights, dtype=vector.dtype)


# Of three steps: the same weight each at the start, then, 30 of 40 iterations on, a quarter of that for the early ones.
WEIGHTS = {0: [1 / 3, 1 / 3, 1 / 3], 30: [1 / 12, 1 / 12, 10 / 12], 40: [0, 0, 1], 1000: [0, 0, 1]}


class Given(NamedTuple):
    algorithm: MamlPlusPlus
    network: Network
    parameters: Tensor
    tasks: TaskBatch
    losses: Tensor  # after each step
    differences: Tensor  # of each loss, by directions


@pytest.fixture(scope="module", params=[(True, True), (True, False), (False, True), (False, False)], ids=str)
def given_differences(request):
    """Learned rates or one, norms of each step's own or the same: all that doesn't depend on the iteration."""
    learn_rates, norm_per_step = request.param
    algorithm = MamlPlusPlus(
        inner_steps=3, inner_lr=0.1, multi_step=40, learn_rates=learn_rates, norm_per_step=norm_per_step
    )
    (network, parameters), tasks = start(algorithm, Conv4Stride(width=2)), make_tasks(1)
    parameters = nudged(parameters)
    losses = partial(losses_of(algorithm, network, tasks), support=tasks.support[0], query=tasks.query[0])
    return Given(algorithm, network, parameters, tasks, losses(parameters), finite_differences(losses, parameters))


@pytest.mark.parametrize("iteration", WEIGHTS)
def test_the_meta_gradient_is_that_of_finite_differences(given_differences, iteration):
    """With respect to all meta-parameters: the network's, each step's scales and shifts, and each step's rates."""
    algorithm, network, parameters, tasks, losses, differences = given_differences
    weights = torch.tensor(WEIGHTS[iteration], dtype=torch.float64)
    found = algorithm.meta_gradient(network, parameters, iteration, tasks)
    assert abs(float(found.losses.sum() - losses @ weights)) < 1e-10
    assert relative_error(along(found.gradient), differences @ weights) < 1e-6


def test_the_meta_gradient_is_that_of_finite_differences_with_pooling():
    algorithm, tasks = MamlPlusPlus(inner_steps=2, multi_step=4), make_tasks(1)
    network, parameters = start(algorithm, Conv4(width=3))
    loss = reference_loss(algorithm, network, tasks, [0.25, 0.75])
    assert_exact(algorithm, network, nudged(parameters), tasks, loss, 2)


def test_the_layers_of_a_network_of_ones_own_are_told_apart_by_what_they_are():
    algorithm, tasks = MamlPlusPlus(inner_steps=2, multi_step=0), make_tasks(1)
    network, parameters = start(algorithm, Small())
    norms = ("body.1.weight", "body.1.bias", "body.4.weight", "body.4.bias")
    loss = reference_loss(algorithm, network, tasks, [0, 1], norms.__contains__)
    assert_exact(algorithm, network, nudged(parameters), tasks, loss)


@pytest.mark.parametrize(("learn_rates", "norm_per_step"), [(True, True), (True, False), (False, True), (False, False)])
def test_it_starts_from_the_network_the_same_at_every_step(learn_rates, norm_per_step):
    algorithm = MamlPlusPlus(inner_lr=0.25, inner_steps=3, learn_rates=learn_rates, norm_per_step=norm_per_step)
    network, parameters = start(algorithm, Conv4(width=3))
    own, shapes = layout(algorithm, network)
    meta = cut(parameters, shapes)
    assert len(own) == (8 if norm_per_step else 0)
    for name, value in network.initial().items():
        assert torch.equal(meta[name], value.expand(3, -1) if name in own else value)
    rates = [value for name, value in meta.items() if name.startswith("rate of")]
    assert len(rates) == (len(network.shapes) - len(own) if learn_rates else 0)
    assert all(rate.tolist() == [0.25] * 3 for rate in rates)


@pytest.mark.parametrize("inner_steps", [1, 3])
def test_with_everything_off_it_is_maml(inner_steps):
    settings = {"inner_lr": 0.2, "inner_steps": inner_steps}
    algorithm = MamlPlusPlus(**settings, learn_rates=False, norm_per_step=False, multi_step=0)
    (network, parameters), tasks = make_network(Conv4(width=4)), make_tasks(2)
    assert torch.equal(algorithm.initialize(network), parameters)
    for first_order in (False, True):
        # The paper anneals from first order to second: an iteration before the switch, and one after it.
        switched = MamlPlusPlus(
            **settings, learn_rates=False, norm_per_step=False, multi_step=0, first_order=8 if first_order else 7
        )
        found = switched.meta_gradient(network, parameters, 7, tasks)
        expected = Maml(**settings, first_order=first_order).meta_gradient(network, parameters, 0, tasks)
        torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.losses, expected.losses, rtol=1e-12, atol=0)
        assert torch.equal(found.accuracies, expected.accuracies)
    images = tasks.support[0], tasks.support_labels, 4
    found = algorithm.classifier(network, parameters, *images)(tasks.query[0])
    expected = Maml(**settings).classifier(network, parameters, *images)(tasks.query[0])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_first_order_takes_gradients_where_the_inner_steps_ended():
    """The network's is ∇L_query at the end; a rate's is minus its step's gradient times that; norms': last."""
    algorithm, tasks = MamlPlusPlus(inner_steps=2, inner_lr=0.1, multi_step=0, first_order=5), make_tasks(1)
    network, parameters = start(algorithm, Conv4Stride(width=3))
    parameters = nudged(parameters)
    own, shapes = layout(algorithm, network)
    meta = cut(parameters, shapes)
    support = tasks.support[0], tasks.support_labels

    first = {name: meta[name][0] if name in own else meta[name] for name in network.shapes}
    second, end = adapted(algorithm, network, parameters, *support, 2)
    at_step = [gradient_of(network, first, *support)]
    at_step.append(gradient_of(network, {**second, **{name: meta[name][1] for name in own}}, *support))
    at_end = gradient_of(network, end, tasks.query[0], tasks.query_labels)
    expected = {}
    for name, _ in shapes:
        if name in own:
            expected[name] = torch.stack([torch.zeros_like(at_end[name]), at_end[name]])
        elif name in network.shapes:
            expected[name] = at_end[name]
        else:
            of = name.removeprefix("rate of ")
            expected[name] = torch.stack([-(gradient[of] * at_end[of]).sum() for gradient in at_step])
    expected = torch.cat([value.flatten() for value in expected.values()])
    found = [algorithm.meta_gradient(network, parameters, iteration, tasks).gradient for iteration in (0, 4, 5)]
    torch.testing.assert_close(found[0], expected, rtol=1e-10, atol=1e-13)
    assert torch.equal(found[1], found[0])
    assert relative_error(found[2], expected) > 1e-3


@given(st.integers(1, 8), st.integers(0, 100), st.integers(0, 200))
def test_the_losses_weights_sum_to_one_and_move_to_the_last_step(inner_steps, multi_step, iteration):
    algorithm = MamlPlusPlus(inner_steps=inner_steps, multi_step=multi_step)
    now, then = algorithm.numbers(iteration), algorithm.numbers(iteration + 1)
    assert len(now) == inner_steps
    assert sum(now) == pytest.approx(1)
    assert min(now) >= 0
    assert len(set(now[:-1])) <= 1
    assert now[-1] <= then[-1] + 1e-12
    if inner_steps > 1 and iteration < multi_step:
        assert now[-1] < then[-1]
    if iteration >= multi_step:
        assert now == [0] * (inner_steps - 1) + [1]
    if multi_step:
        assert algorithm.numbers(0) == pytest.approx([1 / inner_steps] * inner_steps)


@pytest.mark.parametrize("steps", [None, 1, 2, 5])
@pytest.mark.parametrize("learn_rates", [True, False])
def test_steps_beyond_those_trained_with_are_like_the_last(steps, learn_rates):
    algorithm = MamlPlusPlus(inner_steps=2, inner_lr=0.1, learn_rates=learn_rates)
    network, parameters = start(algorithm, Conv4Stride(width=4))
    parameters, tasks = nudged(parameters), make_tasks(1)
    support = tasks.support[0], tasks.support_labels
    weights = adapted(algorithm, network, parameters, *support, 2 if steps is None else steps)[-1]
    found = algorithm.classifier(network, parameters, *support, steps)(tasks.query[0])
    torch.testing.assert_close(found, network(weights, tasks.query[0]), rtol=1e-10, atol=1e-12)


def test_no_step_at_all_leaves_the_start():
    algorithm = MamlPlusPlus(inner_steps=2)
    network, parameters = start(algorithm, Conv4Stride(width=4))
    parameters, tasks = nudged(parameters), make_tasks(1)
    own, shapes = layout(algorithm, network)
    meta = cut(parameters, shapes)
    weights = {name: meta[name][0] if name in own else meta[name] for name in network.shapes}
    found = algorithm.classifier(network, parameters, tasks.support[0], tasks.support_labels, 0)(tasks.query[0])
    torch.testing.assert_close(found, network(weights, tasks.query[0]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inner_lr": 0}, "`algorithm.inner_lr` must be above 0"),
        ({"inner_steps": 0}, "`algorithm.inner_steps` must be at least 1"),
        ({"multi_step": -1}, "`algorithm.multi_step` must be at least 0"),
        ({"first_order": -1}, "`algorithm.first_order` must be at least 0"),
    ],
)
def test_settings_without_sense_are_refused(wrong, message):
    with pytest.raises(FanfoldError, match=message):
        MamlPlusPlus(**wrong)
