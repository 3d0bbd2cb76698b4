from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.one_task_stack import as_stack
from fanfold.tasks.derivatives.structure import anatomy
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from fanfold.tasks.network import as_network
from tests.tasks.reference import Small, make_network, nudged


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
    ("model", "size"),
    [
        (Conv4(width=5), (16, 16)),
        (Conv4(width=5), (21, 19)),  # rows and columns are left over
        (Conv4Stride(width=6), (16, 16)),
        (Conv4Stride(width=6, reduce="flatten"), (17, 16)),
        (Article(width=4, hidden=7), (13, 15)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_written_out_derivatives_are_those_of_the_module(model, size, dtype):
    torch.manual_seed(0)
    network = as_network(model.build(3, size).to(dtype), size, 3)
    assert network.stack is not None
    parameters = network.unflatten(nudged(torch.cat([value.flatten() for value in network.initial().values()]), 0.3))
    for name, value in parameters.items():
        if name.endswith("1.weight"):
            value[0] = -0.8  # where batch norm turns the order round
    images, labels = (torch.rand(6, 1, *size) > 0.7).to(dtype), torch.tensor([0, 0, 1, 1, 2, 2])
    plain = replace(network, stack=None)
    ours = derivatives(lambda theta: network(theta, images), parameters, labels)
    theirs = derivatives(lambda theta: plain(theta, images), parameters, labels)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-3
    for found, expected in zip(ours, theirs, strict=True):
        assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize(("kernel", "channels"), [(5, 1), (3, 2), (1, 1)])
def test_first_filters_of_any_size(kernel, channels):
    torch.manual_seed(0)
    first = block(convolution=nn.Conv2d(channels, 4, kernel, padding=kernel // 2, bias=False))
    module = network_of(first, 4 * 49).double()
    stack, parameters = as_stack(anatomy(module)), dict(module.named_parameters())
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


def block(**changes):
    layers = {
        "convolution": nn.Conv2d(1, 4, 3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(4, track_running_stats=False),
        "relu": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
    } | changes
    return nn.Sequential(*[layer for layer in layers.values() if layer is not None])


def network_of(body, features):
    return nn.Sequential(body, nn.Flatten(), nn.Linear(features, 3))


class Doubled(nn.Sequential):
    """A sequence of one's own, which does more than call one layer after the other."""

    def forward(self, images):
        return 2 * super().forward(images)


def tied(*, layer):
    """Two linear layers that are one and the same, or that share their weight."""
    one, other = nn.Linear(256, 256), nn.Linear(256, 256)
    other.weight = one.weight
    return nn.Sequential(block(), nn.Flatten(), one, nn.ReLU(), one if layer else other, nn.ReLU(), nn.Linear(256, 3))


def hooked(register):
    module = network_of(block(), 4 * 64)
    getattr(module[0][2], register)(lambda *_: None)
    return module


@pytest.mark.parametrize(
    "module",
    [
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding=1)), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding=1, bias=False, padding_mode="reflect")), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding="same", bias=False)), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, (3, 1), padding=(1, 0), bias=False)), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding=2, dilation=2, bias=False)), 4 * 64),
        network_of(block(norm=None), 4 * 64),
        network_of(block(norm=nn.GroupNorm(2, 4)), 4 * 64),
        network_of(block(norm=nn.BatchNorm2d(4, affine=False, track_running_stats=False)), 4 * 64),
        network_of(block(relu=nn.SiLU()), 4 * 64),
        network_of(block(pool=nn.MaxPool2d(2, stride=1)), 4 * 225),
        network_of(block(pool=nn.MaxPool2d(3, stride=2, padding=1)), 4 * 64),
        network_of(block(pool=nn.AvgPool2d(2)), 4 * 64),
        nn.Sequential(block(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 3)),
        nn.Sequential(block(), nn.Flatten(), nn.Linear(256, 3, bias=False)),
        nn.Sequential(block(), nn.Linear(8, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(256, 3)),
        nn.Sequential(block(), nn.Flatten(), nn.Linear(256, 3), nn.Sigmoid()),
        Doubled(block(), nn.Flatten(), nn.Linear(256, 3)),
        nn.utils.parametrizations.weight_norm(nn.Linear(256, 3)),
        hooked("register_forward_hook"),
        hooked("register_forward_pre_hook"),
        hooked("register_full_backward_hook"),
        hooked("register_full_backward_pre_hook"),
        tied(layer=True),
        tied(layer=False),
        Small().build(3, (16, 16)),
    ],
    ids=lambda module: str(module)[:0],
)
def test_what_is_no_stack_is_left_to_pytorch(module):
    assert anatomy(module) is None


def test_a_plain_sequence_of_ones_own_is_a_stack():
    module = nn.Sequential(block(), nn.Identity(), nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3))
    assert as_stack(anatomy(module)).names == (
        "0.0.weight",
        "0.1.weight",
        "0.1.bias",
        *(f"{n}.{w}" for n in (3, 5) for w in ("weight", "bias")),
    )


def test_a_layer_without_parameters_may_stand_in_several_places():
    torch.manual_seed(0)
    relu = nn.ReLU()
    head = nn.Linear(256, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, 3)
    module = nn.Sequential(block(), nn.Flatten(), *head).double()
    images = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    found = as_stack(anatomy(module))(dict(module.named_parameters()), images)
    torch.testing.assert_close(found, module(images))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_moments_are_those_of_float64_also_far_from_nought(rows, mean, deviation, seed):
    x = np.random.default_rng(seed).normal(mean, deviation, (rows, 3)).astype(np.float32)
    found, variance = kernels.moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(found, exact.mean(0), rtol=1e-5, atol=1e-5 * deviation)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-3, atol=1e-6 * deviation**2)


def test_what_is_not_a_number_shows():
    network, parameters = make_network(Conv4(width=4))
    images = torch.full((3, 1, 16, 16), float("nan"), dtype=torch.float64)
    assert network(network.unflatten(parameters), images).isnan().all()
