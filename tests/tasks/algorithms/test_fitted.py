"""Methods on embeddings, compared with solutions by other means, in float64."""

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn.functional import normalize

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.logistic import Logistic
from fanfold.tasks.algorithms.nearest_mean import NearestMean
from fanfold.tasks.algorithms.ridge import Ridge
from fanfold.tasks.fitted import CENTRE
from fanfold.tasks.models import Conv4
from fanfold.tasks.network import as_network
from fanfold.tasks.parameters import unflatten
from tests.tasks.every_algorithm import FITTED, each
from tests.tasks.reference import SIZE, make_network, make_tasks, permuted

UNEQUAL = torch.tensor([0, 2, 1, 2, 2, 0, 2, 2])
SETS = {"few pictures": (UNEQUAL, 12), "many pictures": (UNEQUAL.repeat(5), 6), "two ways": (torch.arange(2), 5)}


def points_of(labels, width, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(labels), width, generator=generator, dtype=torch.float64) + labels[:, None] / 2


def shares(labels):
    """A weight a picture, by which classes count alike."""
    labels = labels.numpy()
    counts = np.array([(labels == label).sum() for label in labels])
    return len(labels) / (len(set(labels.tolist())) * counts)


@pytest.mark.parametrize("places", SETS)
@pytest.mark.parametrize("strength", [1e-3, 0.3, 100])
def test_ridge_is_the_least_squares_solution_of_the_system_with_the_penalty_as_further_rows(places, strength):
    labels, width = SETS[places]
    points, query = points_of(labels, width), points_of(labels, width, 4)
    roots = np.sqrt(shares(labels))[:, None]
    rows = np.concatenate([roots * points.numpy(), np.sqrt(strength) * np.eye(width)])
    targets = np.concatenate([roots * np.eye(int(labels.max()) + 1)[labels], np.zeros((width, int(labels.max()) + 1))])
    expected = query.numpy() @ np.linalg.lstsq(rows, targets, rcond=None)[0]
    found = Ridge().learn(points, labels, {"regularization": strength, "scale": 2.5})(query)
    np.testing.assert_allclose(found, 2.5 * expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("places", SETS)
@pytest.mark.parametrize("c", [1e-2, 1, 100])
def test_logistic_regression_is_the_minimum_that_another_solver_finds(places, c):
    """Newton's method with a trust region, in all dimensions, of a loss that is written anew."""
    labels, width = SETS[places]
    points, query, ways = points_of(labels, width).numpy(), points_of(labels, width, 4), int(labels.max()) + 1
    x, target, weights = np.c_[points, np.ones(len(points))], np.eye(ways)[labels], c * shares(labels)
    penalty = np.tile(np.append(np.ones(width), 0), ways)

    def p(vector):
        logits = x @ vector.reshape(ways, -1).T
        exp = np.exp(logits - logits.max(1, keepdims=True))
        return exp / exp.sum(1, keepdims=True)

    def loss(vector):
        return 0.5 * penalty @ vector**2 - weights @ np.log((p(vector) * target).sum(1))

    def gradient(vector):
        return penalty * vector + ((weights[:, None] * (p(vector) - target)).T @ x).ravel()

    def hessian(vector):
        q = p(vector)
        parts = np.einsum("i,ij,jk->ijk", weights, q, np.eye(ways)) - np.einsum("i,ij,ik->ijk", weights, q, q)
        return np.einsum("ijk,ia,ib->jakb", parts, x, x).reshape(penalty.size, -1) + np.diag(penalty)

    start = np.zeros(ways * (width + 1))
    options = {"gtol": 1e-10, "maxiter": 500}
    best = minimize(loss, start, jac=gradient, hess=hessian, method="trust-exact", options=options).x
    expected = np.c_[query.numpy(), np.ones(len(query))] @ best.reshape(ways, -1).T
    found = Logistic().learn(points_of(labels, width), labels, {"c": c})(query).numpy()
    # Biases may all move alike, which changes no probability.
    found, expected = (logits - logits.mean(1, keepdims=True) for logits in (found, expected))
    np.testing.assert_allclose(found, expected, atol=2e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("transform", ["none", "l2n", "cl2n"])
def test_the_nearest_mean_is_that_of_centred_embeddings_of_unit_length(transform):
    network, _ = make_network(Conv4(width=3), None)
    algorithm, tasks = NearestMean(transform=transform), make_tasks(1, shots=3)
    support, query, labels = tasks.support[0], tasks.query[0], torch.tensor([0, 1, 1, 1, 2, 0, 2, 1, 1])
    centre = torch.linspace(-1, 1, network.outputs)
    vector = algorithm.parameters(network, network.initial(), centre, {"scale": 3.0})
    assert torch.equal(unflatten(algorithm.shapes(network), vector)[CENTRE], centre.to(vector))

    def transformed(images):
        points = network(network.initial(), images).detach()
        points = points - centre if transform == "cl2n" else points
        return points if transform == "none" else points / points.norm(dim=1, keepdim=True)

    of_support, of_query = transformed(support), transformed(query)
    expected = [
        [-3 * float(((point - of_support[labels == label].mean(0)) ** 2).sum()) for label in range(3)]
        for point in of_query
    ]
    found = algorithm.classifier(network, vector, support, labels, None)(query)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-7)


@each(FITTED)
def test_permuting_classes_permutes_the_predictions(algorithm):
    order, tasks = torch.tensor([2, 0, 1]), make_tasks(1)
    network, _ = make_network(Conv4(width=4), None)
    other = as_network(copy.deepcopy(network.module), SIZE, None)
    support, labels, query = tasks.support[0], tasks.support_labels, tasks.query[0]
    vector = algorithm.initialize(network)
    before = algorithm.classifier(network, vector, support, labels, None)(query)
    after = algorithm.classifier(other, algorithm.initialize(other), permuted(support, order), labels, None)(query)
    torch.testing.assert_close(after, before[:, order], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after, before, rtol=1e-3)
    assert before.dtype == query.dtype


@each(FITTED)
def test_labels_come_in_any_order_and_number(algorithm):
    tasks, labels = make_tasks(1, shots=2), torch.tensor([0, 1, 2, 1, 2, 2])
    network, _ = make_network(Conv4(width=4), None)
    vector, (support, query) = algorithm.initialize(network), (tasks.support[0], tasks.query[0])
    logits = algorithm.classifier(network, vector, support, labels, None)(query)
    order = torch.tensor([5, 0, 3, 4, 1, 2])
    again = algorithm.classifier(network, vector, support[order], labels[order], None)(query)
    torch.testing.assert_close(again, logits, rtol=1e-5, atol=1e-6)
    moved = algorithm.classifier(network, vector, support, labels.roll(1), None)(query)
    assert not torch.allclose(moved, logits, rtol=1e-2)


@each(FITTED)
def test_a_picture_more_of_a_class_alone_does_not_make_the_class_likelier(algorithm):
    """Copies of a class's one picture change nothing: classes count alike."""
    chosen = {name: values[len(values) // 2] for name, values in algorithm.grids().items()}
    labels = torch.arange(3)
    points, query = normalize(points_of(labels, 8), dim=1), points_of(torch.arange(5), 8, 4)
    one = algorithm.learn(points, labels, chosen)(query).softmax(1)
    many = torch.tensor([0, 1, 1, 1, 1, 2])
    weighted = {**chosen, "c": chosen.get("c", 0) / 2, "regularization": chosen.get("regularization", 0) * 2}
    other = algorithm.learn(points[many], many, weighted)(query).softmax(1)
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@each(FITTED)
def test_it_is_not_trained_by_tasks_and_numbers_that_are_asked_for_are_kept(algorithm):
    network, _ = make_network(Conv4(width=3), None)
    vector = algorithm.initialize(network)
    with pytest.raises(FanfoldError, match="trains no network: freeze a backbone"):
        algorithm.meta_gradient(network, vector, 0, make_tasks(1))
    named = unflatten(algorithm.shapes(network), vector)
    assert named[CENTRE].eq(0).all()
    for name, values in algorithm.grids().items():
        assert float(named[name]) == pytest.approx(values[len(values) // 2])
        assert list(values) == sorted(values)
        fixed = type(algorithm)(**{name: 0.7})
        assert fixed.grids()[name] == (0.7,)
        for wrong in (0, -1, float("inf"), float("nan")):
            with pytest.raises(FanfoldError, match=f"`algorithm.{name}` must be above 0, not"):
                type(algorithm)(**{name: wrong})
