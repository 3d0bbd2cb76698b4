import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from fanfold.tasks.algorithms.proto_maml import ProtoMaml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.network import Embedded
from tests.tasks.reference import Small, assert_exact, make_network, make_tasks, relative_error

LABELS = torch.arange(3).repeat_interleave(2)


def reference_loss(algorithm, network, tasks):
    """The query loss after descent of network and head as independent leaves, from the prototypes."""

    def loss(vector, support, query):
        theta = {name: value.clone() for name, value in network.unflatten(vector).items()}
        of_classes = network(theta, support).unflatten(0, (3, -1)).mean(1).detach()
        weight, bias = 2 * of_classes, -(of_classes**2).sum(1)
        for _ in range(algorithm.inner_steps):
            leaves = [value.detach().requires_grad_() for value in (*theta.values(), weight, bias)]
            logits = linear(network(dict(zip(theta, leaves, strict=False)), support), *leaves[-2:])
            gradients = torch.autograd.grad(cross_entropy(logits, tasks.support_labels), leaves)
            *values, weight, bias = (
                leaf.detach() - algorithm.inner_lr * by for leaf, by in zip(leaves, gradients, strict=True)
            )
            theta = dict(zip(theta, values, strict=True))
        return cross_entropy(linear(network(theta, query), weight, bias), tasks.query_labels)

    return loss


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize(
    "model", [Conv4(width=2), Conv4Stride(width=2), Small(norm=False)], ids=["conv4", "conv4-stride", "small"]
)
def test_the_meta_gradient_is_that_of_finite_differences(model, inner_steps):
    algorithm, (network, parameters) = ProtoMaml(inner_lr=0.3, inner_steps=inner_steps), make_network(model, None)
    tasks = make_tasks(1)
    assert_exact(algorithm, network, parameters, tasks, reference_loss(algorithm, network, tasks))


def test_without_steps_it_is_prototypical_networks():
    algorithm, (network, parameters), tasks = ProtoMaml(), make_network(Conv4(width=4), None), make_tasks(1)
    support, query = tasks.support[0], tasks.query[0]
    logits = algorithm.classifier(network, parameters, support, tasks.support_labels, 0)(query)
    theta = network.unflatten(parameters)
    prototypes = network(theta, support).unflatten(0, (3, -1)).mean(1)
    distances = torch.cdist(network(theta, query), prototypes).square()
    torch.testing.assert_close(logits.softmax(1), (-distances).softmax(1))


def test_the_first_order_leaves_the_hessian_out_and_keeps_the_prototypes():
    (network, parameters), tasks = make_network(Conv4(width=4), None), make_tasks(1)
    tiny = [ProtoMaml(inner_lr=1e-9, first_order=first) for first in (True, False)]
    first, exact = (algorithm.meta_gradient(network, parameters, 0, tasks).gradient for algorithm in tiny)
    torch.testing.assert_close(first, exact, rtol=1e-5, atol=1e-8)  # the prototypes' part is all there is
    assert first.norm() > 1e-3
    large = [ProtoMaml(inner_lr=0.3, first_order=first) for first in (True, False)]
    first, exact = (algorithm.meta_gradient(network, parameters, 0, tasks).gradient for algorithm in large)
    assert relative_error(first, exact) > 1e-2


def test_of_given_embeddings_the_head_alone_learns():
    network, parameters = make_network(Conv4(width=4), None)
    support, query = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embedded = Embedded(**vars(network))
    logits = ProtoMaml(inner_lr=0.3).classifier(embedded, parameters, support, LABELS, 1)(query)
    weight = 2 * support.unflatten(0, (3, 2)).mean(1)
    leaves = [weight.requires_grad_(), (-(weight.detach() / 2).square().sum(1)).requires_grad_()]
    found = torch.autograd.grad(cross_entropy(linear(support, *leaves), LABELS), leaves)
    expected = linear(query, *(leaf - 0.3 * by for leaf, by in zip(leaves, found, strict=True)))
    torch.testing.assert_close(logits, expected.detach())


def test_any_number_of_ways_is_learnt_also_where_nothing_is_differentiated():
    network, parameters = make_network(Conv4(width=4), None)
    for ways in (2, 7):
        tasks = make_tasks(1, ways=ways)
        with torch.no_grad():
            classify = ProtoMaml(inner_lr=0.3).classifier(
                network, parameters, tasks.support[0], tasks.support_labels, 2
            )
            logits = classify(tasks.query[0])
        assert logits.shape == (2 * ways, ways)
        assert not logits.requires_grad
    assert ProtoNet.head is ProtoMaml.head is False
