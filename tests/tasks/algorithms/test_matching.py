from math import log

import pytest
import torch
from torch import nn

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.models import Conv4, Conv4Stride
from tests.tasks.reference import (
    SIZE,
    WAYS,
    Small,
    assert_exact,
    cut,
    make_network,
    make_tasks,
    nudged,
    relative_error,
    squared_distance,
    start,
)


def similarity(kind, scale, point, other):
    if kind == "euclidean":
        return -squared_distance(point, other)
    return scale * (point @ other) / (point.norm() * other.norm()).clamp(min=1e-12)


def votes(kind, scale, point, support):
    """The classes' log p, from a query's embedding and the support's `[ways][shots]`."""
    attention = torch.stack([torch.stack([similarity(kind, scale, point, other) for other in row]) for row in support])
    attention = attention.exp() / attention.exp().sum()
    return attention.sum(1).log()


def lstm_cell(image, hidden, cell, from_image, from_hidden, bias, other_bias):
    """A step of an LSTM (Hochreiter and Schmidhuber), gates in PyTorch's order: in, forget, new, out."""
    keep, forget, new, out = (from_image @ image + from_hidden @ hidden + bias + other_bias).chunk(4)
    cell = forget.sigmoid() * cell + keep.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def context_shapes(width):
    lstm = [(4 * width, width), (4 * width, width), (4 * width,), (4 * width,)]
    cell = [(4 * width, 2 * width), *lstm[1:]]
    names = ("images", "hidden", "bias", "other bias")
    parts = {"forth": lstm, "back": lstm, "query": cell}
    return [
        (f"{part} {name}", shape) for part, shapes in parts.items() for name, shape in zip(names, shapes, strict=True)
    ]


def with_context(meta, support, query, steps):
    """Full context embeddings, image by image: the support read forth and back, queries attending to it."""
    weights = {
        part: [meta[f"{part} {name}"] for name in ("images", "hidden", "bias", "other bias")]
        for part in ("forth", "back", "query")
    }
    nought = torch.zeros_like(support[0])
    read = {}
    for part, order in (("forth", range(len(support))), ("back", reversed(range(len(support))))):
        hidden, cell = nought, nought
        for place in order:
            hidden, cell = lstm_cell(support[place], hidden, cell, *weights[part])
            read[part, place] = hidden
    known = torch.stack([read["forth", n] + read["back", n] + support[n] for n in range(len(support))])
    found = []
    for point in query:
        hidden, cell = point, nought
        for _ in range(steps):
            attention = torch.stack([(hidden @ row).exp() for row in known])
            memory = ((attention / attention.sum())[:, None] * known).sum(0)
            output, cell = lstm_cell(torch.cat([point, memory]), hidden, cell, *weights["query"])
            hidden = output + point
        found.append(hidden)
    return known, torch.stack(found)


def meta_by_name(algorithm, network, vector):
    shapes = list(network.shapes.items())
    if algorithm.similarity == "cosine":
        shapes.append(("log scale", (1,)))
    if algorithm.full_context:
        shapes += context_shapes(network.outputs)
    meta = cut(vector, shapes)
    return {name: meta[name] for name in network.shapes}, meta, meta.get("log scale", torch.zeros(1))[0].exp()


def log_p(algorithm, network, vector, support, query, ways=WAYS):
    """Log p of the queries' classes, `[n, ways]`."""
    theta, meta, scale = meta_by_name(algorithm, network, vector)
    with torch.no_grad():
        together = network(theta, torch.cat([support, query]))
        of_support, of_query = together[: len(support)], together[len(support) :]
        if algorithm.full_context:
            of_support, of_query = with_context(meta, of_support, of_query, algorithm.context_steps)
        shots = len(support) // ways
        rows = [[of_support[way * shots + shot] for shot in range(shots)] for way in range(ways)]
        return torch.stack([votes(algorithm.similarity, scale, point, rows) for point in of_query])


def reference_loss(algorithm, network, tasks, shots):
    """The mean of -log p of the true class, at the first turn or at all of them."""

    def loss(vector, support, query):
        drawings = torch.cat([support.unflatten(0, (WAYS, -1)), query.unflatten(0, (WAYS, -1))], 1)
        losses = []
        for turn in range(drawings.shape[1] if algorithm.every_turn else 1):
            rolled = drawings.roll(-turn, 1)
            rows = log_p(algorithm, network, vector, rolled[:, :shots].flatten(0, 1), rolled[:, shots:].flatten(0, 1))
            losses += [-float(row[label]) for row, label in zip(rows, tasks.query_labels, strict=True)]
        return sum(losses) / len(losses)

    return loss


ALL = [
    Matching(),
    Matching(similarity="euclidean"),
    Matching(every_turn=True),
    Matching(similarity="euclidean", every_turn=True),
    Matching(full_context=True, context_steps=2),
    Matching(similarity="euclidean", full_context=True, context_steps=1),
]


def title(algorithm):
    parts = (algorithm.similarity, "context" * algorithm.full_context, "every turn" * algorithm.every_turn)
    return " ".join(part for part in parts if part)


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("algorithm", ALL, ids=title)
def test_the_meta_gradient_is_that_of_finite_differences(algorithm, shots):
    """With respect to all meta-parameters: the embedding's, the cosine's scale and the context's."""
    network, parameters = start(algorithm, Conv4(width=3) if algorithm.full_context else Small())
    tasks = make_tasks(1, shots=shots, queries=2)
    assert_exact(algorithm, network, nudged(parameters), tasks, reference_loss(algorithm, network, tasks, shots))


@pytest.mark.parametrize("algorithm", ALL, ids=title)
def test_a_query_is_voted_for_by_the_support_set(algorithm):
    network, parameters = start(algorithm, Conv4Stride(width=3))
    parameters, tasks = nudged(parameters), make_tasks(1, shots=2, queries=3)
    classify = algorithm.classifier(network, parameters, tasks.support[0], tasks.support_labels, None)
    found = classify(tasks.query[0])
    expected = log_p(algorithm, network, parameters, tasks.support[0], tasks.query[0])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(9, dtype=torch.float64))


class WithoutBias(Small):
    """Maps an empty picture to nought."""

    def build(self, ways, size):
        return nn.Sequential(nn.Conv2d(1, 2, 3, stride=3, bias=False), nn.ReLU(), nn.Flatten())


def test_an_image_without_any_features_breaks_nothing():
    """After a ReLU an embedding may be nought, which has no direction."""
    network, parameters = start(Matching(), WithoutBias())
    support = torch.zeros(1, 6, 1, *SIZE, dtype=torch.float64)
    tasks = TaskBatch(support, make_tasks(1).support_labels, make_tasks(1).query, make_tasks(1).query_labels)
    found = Matching().meta_gradient(network, parameters, 0, tasks)
    assert found.gradient.isfinite().all()
    assert found.losses.isfinite().all()


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
@pytest.mark.parametrize("shots", [1, 2])
def test_every_turn_is_the_mean_over_the_episodes_one_by_one(shots, kind):
    """Each episode is built as a task of its own; batch norm sees the same images in each of them."""
    one_by_one, at_once = Matching(similarity=kind), Matching(similarity=kind, every_turn=True)
    network, parameters = start(one_by_one, Conv4(width=4))
    tasks = make_tasks(1, shots=shots, queries=2)
    drawings = torch.cat([tasks.support[0].unflatten(0, (WAYS, -1)), tasks.query[0].unflatten(0, (WAYS, -1))], 1)
    episodes = []
    for turn in range(shots + 2):
        rolled = drawings.roll(-turn, 1)
        support, query = rolled[:, :shots].flatten(0, 1)[None], rolled[:, shots:].flatten(0, 1)[None]
        episode = TaskBatch(support, tasks.support_labels, query, tasks.query_labels)
        episodes.append(one_by_one.meta_gradient(network, parameters, 0, episode))
    found = at_once.meta_gradient(network, parameters, 0, tasks)
    mean = sum(episode.gradient for episode in episodes) / len(episodes)
    torch.testing.assert_close(found.gradient, mean, rtol=1e-9, atol=1e-12)
    assert found.losses.item() == pytest.approx(sum(part.losses.item() for part in episodes) / len(episodes))
    assert found.accuracies.item() == pytest.approx(sum(part.accuracies.item() for part in episodes) / len(episodes))


def test_it_starts_with_the_scale_asked_for_and_a_context_drawn_from_the_generator():
    network, own = make_network(Conv4(width=3), None)
    assert torch.equal(Matching(similarity="euclidean").initialize(network), own)
    with_scale = Matching(scale=7.0).initialize(network)
    assert torch.equal(with_scale[:-1], own)
    assert with_scale[-1].item() == pytest.approx(log(7), rel=1e-6)

    algorithm, found = Matching(full_context=True), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(algorithm.initialize(network))
    count = sum(int(torch.tensor(shape).prod()) for _, shape in context_shapes(3))
    assert len(found[0]) == len(own) + 1 + count
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(found[0][: len(own)], own)
    assert found[0].dtype == torch.float64


def test_computing_with_full_context_draws_nothing():
    """What a worker draws afterwards, as for dropout, must not depend on whether it computed such a chunk before."""
    algorithm = Matching(full_context=True, context_steps=7)
    network, parameters = start(algorithm, Conv4(width=5))
    tasks = make_tasks(1)
    torch.manual_seed(4)
    algorithm.meta_gradient(network, parameters, 0, tasks)
    after = torch.rand(3)
    torch.manual_seed(4)
    assert torch.equal(torch.rand(3), after)


def test_full_context_depends_on_the_order_of_the_support_set():
    algorithm = Matching(full_context=True)
    network, parameters = start(algorithm, Conv4(width=4))
    tasks = make_tasks(1)
    order = [1, 0, *range(2, 6)]
    found = [
        algorithm.classifier(network, parameters, support, tasks.support_labels, None)(tasks.query[0])
        for support in (tasks.support[0], tasks.support[0][order])
    ]
    assert relative_error(found[1], found[0]) > 1e-6
    plain = Matching()
    parameters = plain.initialize(network)
    found = [
        plain.classifier(network, parameters, support, tasks.support_labels, None)(tasks.query[0])
        for support in (tasks.support[0], tasks.support[0][order])
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": 0}, "`algorithm.scale` must be above 0"),
        ({"scale": float("nan")}, "`algorithm.scale` must be above 0"),
        ({"context_steps": 0}, "`algorithm.context_steps` must be at least 1"),
        ({"full_context": True, "every_turn": True}, "`algorithm.every_turn` to false"),
    ],
)
def test_settings_without_sense_are_refused(wrong, message):
    with pytest.raises(FanfoldError, match=message):
        Matching(**wrong)
