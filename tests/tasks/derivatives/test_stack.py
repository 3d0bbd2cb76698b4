"""Stacks against the modules they are made of, by PyTorch's own differentiation; one task against several."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.derivatives.backends import TORCH, numba_operations
from fanfold.tasks.derivatives.stack import ALIGNED, as_stack
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from fanfold.tasks.network import as_network
from fanfold.tasks.parameters import flatten
from tests.tasks.derivatives.modules import block, network_of
from tests.tasks.reference import SIZE, make_module, make_network, nudged

BACKENDS = [pytest.param(TORCH, id="torch"), pytest.param(numba_operations(), id="numba")]
MODELS = [Conv4(width=4), Conv4Stride(width=4), Conv4Stride(width=4, reduce="flatten"), Article(width=3, hidden=7)]


def stack_of(module, size, operations):
    shapes = {name: value.shape for name, value in module.named_parameters()}
    return as_stack(structure_of(module), shapes, size, operations, torch.device("cpu"))


def values_of(module):
    return [value.detach() for value in module.parameters()]


def derivatives(call, parameters, labels):
    """Outputs, the loss's gradient and its Hessian times some vector, all by PyTorch's own differentiation."""
    theta = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    outputs = call(theta)
    gradient = torch.autograd.grad(cross_entropy(outputs, labels), list(theta.values()), create_graph=True)
    along = sum(
        (part * torch.cos(50 * value.detach())).sum() for part, value in zip(gradient, theta.values(), strict=True)
    )
    return [outputs, *gradient, *torch.autograd.grad(along, list(theta.values()))]


@pytest.mark.parametrize(
    ("model", "size", "channels"),
    [
        (Conv4(width=5), (16, 16), 1),
        (Conv4(width=5), (21, 19), 3),  # rows and columns are left over
        (Conv4Stride(width=6), (16, 16), 1),
        (Conv4Stride(width=6, reduce="flatten"), (17, 16), 3),
        (Article(width=4, hidden=7), (13, 15), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_written_out_derivatives_are_those_of_the_module(model, size, channels, dtype):
    torch.manual_seed(0)
    network = as_network(model.build(3, size, channels).to(dtype), size, 3, channels=channels)
    assert network.stack is not None
    parameters = network.unflatten(nudged(torch.cat([value.flatten() for value in network.initial().values()]), 0.3))
    for name, value in parameters.items():
        if name.endswith("1.weight"):
            value[0] = -0.8  # where batch norm turns the order round
    images, labels = (torch.rand(6, channels, *size) > 0.7).to(dtype), torch.tensor([0, 0, 1, 1, 2, 2])
    plain = replace(network, stack=None)
    ours = derivatives(lambda theta: network(theta, images), parameters, labels)
    theirs = derivatives(lambda theta: plain(theta, images), parameters, labels)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-3
    for found, expected in zip(ours, theirs, strict=True):
        assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("operations", BACKENDS)
def test_derivatives_on_coloured_pictures_are_finite_differences(operations):
    """Of the loss by the gradient, and of the gradient by the Hessian, in a random direction, in float64."""
    torch.manual_seed(0)
    module = Conv4(width=4).build(3, (18, 18), 3).double()
    stack, labels = stack_of(module, (18, 18), operations), torch.tensor([0, 0, 1, 1, 2, 2])
    images, names = torch.rand(6, 3, 18, 18, dtype=torch.float64), list(dict(module.named_parameters()))
    theta = [nudged(value, 0.1) for value in values_of(module)]
    direction, other = ([torch.randn_like(value) for value in theta] for _ in range(2))
    step = 1e-6

    def gradient(along, create_graph=False):
        moved = [value + along * way for value, way in zip(theta, direction, strict=True)]
        moved = [value.clone().requires_grad_() for value in moved]
        loss = cross_entropy(stack(dict(zip(names, moved, strict=True)), images), labels)
        return loss, moved, torch.autograd.grad(loss, moved, create_graph=create_graph)

    def dot(parts, others):
        return sum((part * way).sum() for part, way in zip(parts, others, strict=True))

    _, moved, found = gradient(0.0, create_graph=True)
    hessian = torch.autograd.grad(dot(found, other), moved)
    (high, _, of_high), (low, _, of_low) = gradient(step), gradient(-step)
    torch.testing.assert_close(dot(found, direction), (high - low) / (2 * step), rtol=1e-5, atol=1e-7)
    second = (dot(of_high, other) - dot(of_low, other)) / (2 * step)
    torch.testing.assert_close(dot(hessian, direction), second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("operations", BACKENDS)
@pytest.mark.parametrize(("kernel", "channels"), [(5, 1), (3, 2), (1, 1)])
def test_first_filters_of_any_size(kernel, channels, operations):
    torch.manual_seed(0)
    first = block(convolution=nn.Conv2d(channels, 4, kernel, padding=kernel // 2, bias=False))
    module = network_of(first, 4 * 49).double()
    stack, parameters = stack_of(module, (15, 14), operations), dict(module.named_parameters())
    images, labels = torch.rand(6, channels, 15, 14, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 2, 2])
    ours = derivatives(lambda theta: stack(theta, images), parameters, labels)
    theirs = derivatives(lambda theta: torch.func.functional_call(module, theta, images), parameters, labels)
    for found, expected in zip(ours, theirs, strict=True):
        assert (found - expected).norm() <= 1e-10 * expected.norm()


def test_features_are_what_goes_into_the_last_layer():
    network, parameters = make_network(Article(width=4, hidden=7))
    images = torch.rand(4, 1, 16, 16, dtype=torch.float64)
    named = network.unflatten(parameters)
    torch.testing.assert_close(network.features(named, images), replace(network, stack=None).features(named, images))


def test_a_layer_without_parameters_may_stand_in_several_places():
    torch.manual_seed(0)
    relu = nn.ReLU()
    head = nn.Linear(256, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, 3)
    module = nn.Sequential(block(), nn.Flatten(), *head).double()
    images = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    found = stack_of(module, (16, 16), numba_operations())(dict(module.named_parameters()), images)
    torch.testing.assert_close(found, module(images))


def test_what_is_not_a_number_shows():
    network, parameters = make_network(Conv4(width=4))
    images = torch.full((3, 1, 16, 16), float("nan"), dtype=torch.float64)
    assert network(network.unflatten(parameters), images).isnan().all()


@pytest.mark.parametrize("operations", BACKENDS)
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_several_tasks_are_as_each_by_itself(model, operations):
    """Forward, backward, tangent and backward tangent; tasks with parameters of their own, and with the same."""
    module = make_module(model)
    stack, tasks = stack_of(module, SIZE, operations), 3
    own = [stack.laid_out(values_of(module)) for _ in range(tasks)]
    own = [[nudged(part, 0.1 * task) for part in parts] for task, parts in enumerate(own)]
    given = torch.rand(tasks, 6, 1, *SIZE).double(), torch.randn(tasks, 6, 3).double()
    for parameters in (own, own[:1]):
        alone = [
            all_passes(stack, parameters[place % len(parameters)], *(part[place : place + 1] for part in given))
            for place in range(tasks)
        ]
        together = all_passes(stack, [torch.cat(parts) for parts in zip(*parameters, strict=True)], *given)
        for found, expected in zip(together, zip(*alone, strict=True), strict=True):
            torch.testing.assert_close(found, torch.cat(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("operations", BACKENDS)
def test_tangents_may_be_summed_over_the_tasks(operations):
    module = make_module(Article(width=3, hidden=7))
    stack, tasks = stack_of(module, SIZE, operations), 3
    parameters = stack.laid_out(values_of(module))
    images, d_outputs = torch.rand(tasks, 6, 1, *SIZE).double(), torch.randn(tasks, 6, 3).double()
    _, kept = stack.forward(parameters, stack.first.patches(images))
    gradient, both = stack.backward(kept, d_outputs)
    _, forth = stack.tangent(both, gradient)
    each = stack.backward_tangent(both, forth, torch.cos(d_outputs))
    summed = stack.backward_tangent(both, forth, torch.cos(d_outputs), summed=True)
    for found, expected in zip(summed, each, strict=True):
        torch.testing.assert_close(found, expected.sum(0, keepdim=True))


def all_passes(stack, parameters, images, d_outputs):
    """All that a stack computes, in a direction that differs from task to task."""
    outputs, kept = stack.forward(parameters, stack.first.patches(images))
    gradient, both = stack.backward(kept, d_outputs)
    outputs_t, forth = stack.tangent(both, [torch.cos(part) for part in gradient])
    return outputs, *gradient, outputs_t, *stack.backward_tangent(both, forth, torch.sin(d_outputs))


@pytest.mark.parametrize("operations", BACKENDS)
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_layout_keeps_every_number(model, operations):
    module = make_module(model)
    stack, vector = stack_of(module, SIZE, operations), flatten(dict(module.named_parameters())).detach()
    operands = stack.layout.lay_out(vector)
    assert torch.equal(stack.layout.total(operands, None, 0.0), vector)
    parts = stack.layout.split(operands)
    assert all(map(torch.equal, stack.layout.split(stack.layout.join(parts, None)), parts))
    expected = stack.laid_out(values_of(module))
    assert all(map(torch.equal, parts, expected))
    assert all(map(torch.equal, stack.restored(parts), values_of(module)))


def test_in_one_vector_each_parameter_begins_at_a_whole_word():
    module = make_module(Article(width=3, hidden=7))
    layout = stack_of(module, SIZE, TORCH).layout
    (vector,) = layout.lay_out(flatten(dict(module.named_parameters())).detach())
    starts = [(part.data_ptr() - vector.data_ptr()) // vector.element_size() for part in layout.split([vector])]
    assert all(start % ALIGNED == 0 for start in starts)
    assert vector.shape[1] % ALIGNED == 0
