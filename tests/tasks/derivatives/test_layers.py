"""Each layer's four functions, on every backend, against differences of float64 numbers."""

import pytest
import torch

from fanfold.tasks.derivatives.backends import TORCH, numba_operations
from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.layers import Block, FirstBlock, Flatten, Linear, Mean
from fanfold.tasks.derivatives.torch_ops import linear

TASKS, IMAGES, CHANNELS, EPS, STEP = 2, 3, 4, 1e-3, 1e-6
GEOMETRIES = [Geometry(3, 1, 1, 2), Geometry(3, 2, 1, 1), Geometry(3, 1, 0, 3), Geometry(1, 1, 0, 1)]
BACKENDS = [pytest.param(TORCH, id="torch"), pytest.param(numba_operations(), id="numba")]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def parameters_of(layer, *shapes):
    """Parameters of each task, as the layer takes them."""
    each = [layer.laid_out([random(*shape) for shape in shapes]) for _ in range(TASKS)]
    return [torch.stack(list(parts)) for parts in zip(*each, strict=True)]


def check(layer, parameters, inputs):
    """Every function of a layer against differences of the one before it.

    Args:
        layer: The layer.
        parameters: `[tasks, …]`.
        inputs: As the layer takes them; a tensor, or what no derivative goes to.
    """
    differentiable = isinstance(inputs, torch.Tensor)
    directions = [random(*part.shape) for part in parameters]
    inputs_t = random(*inputs.shape) if differentiable else None
    outputs, kept = layer.forward(parameters, inputs)
    d_outputs, d_outputs_t = (torch.randn_like(outputs.contiguous()) for _ in range(2))

    def moved(by):
        """Outputs, and the derivatives, after a move in the direction."""
        there = [part + by * along for part, along in zip(parameters, directions, strict=True)]
        outputs, kept = layer.forward(there, inputs + by * inputs_t if differentiable else inputs)
        d_inputs, gradients, _ = layer.backward(kept, d_outputs + by * d_outputs_t)
        return [outputs, *([d_inputs] if differentiable else []), *gradients]

    differences = [(ahead - behind) / (2 * STEP) for ahead, behind in zip(moved(STEP), moved(-STEP), strict=True)]
    d_inputs, gradients, back = layer.backward(kept, d_outputs)
    along = [(inputs_t, d_inputs)] if differentiable else []
    along += zip(directions, gradients, strict=True)
    slope = sum(float((one * other).sum()) for one, other in along)
    assert slope == pytest.approx(float((d_outputs * differences[0]).sum()), rel=1e-6)

    outputs_t, forth = layer.tangent(kept, back, directions, inputs_t)
    d_inputs_t, products = layer.backward_tangent(kept, back, forth, d_outputs_t, False)
    found = [outputs_t, *([d_inputs_t] if differentiable else []), *products]
    for one, other in zip(found, differences, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= 1e-6 * (1 + other.norm())
    d_inputs_t, summed = layer.backward_tangent(kept, back, forth, d_outputs_t, True)
    assert (d_inputs_t is None) is not differentiable
    for one, other in zip(summed, products, strict=True):
        torch.testing.assert_close(one, other.sum(0, keepdim=True))


@pytest.mark.parametrize("operations", BACKENDS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_blocks_derivatives_are_its_differences(geometry, operations):
    layer = Block(("weight", "scale", "shift"), CHANNELS, geometry, EPS, operations)
    side = geometry.side
    parameters = parameters_of(layer, (CHANNELS, 5, side, side), (CHANNELS,), (CHANNELS,))
    check(layer, parameters, operations.products.join(random(TASKS, IMAGES, 7, 8, 5)))


@pytest.mark.parametrize("operations", BACKENDS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("inside", [1, 3])
def test_the_first_blocks_derivatives_are_its_differences(geometry, inside, operations):
    layer = FirstBlock(("weight", "scale", "shift"), CHANNELS, geometry, EPS, operations)
    side = geometry.side
    parameters = parameters_of(layer, (CHANNELS, inside, side, side), (CHANNELS,), (CHANNELS,))
    check(layer, parameters, layer.patches(random(TASKS, IMAGES, inside, 7, 8)))


@pytest.mark.parametrize("operations", BACKENDS)
@pytest.mark.parametrize("size", [(2, 3), (1, 1)])
def test_means_and_vectors_of_feature_maps_are_differentiated(size, operations):
    maps = random(TASKS, IMAGES, *size, CHANNELS)
    inputs, products = operations.products.join(maps), operations.products
    for layer in (Mean(CHANNELS, products), Flatten(CHANNELS, products, True), Flatten(CHANNELS, products, False)):
        check(layer, [], inputs)
    outputs, _ = Mean(CHANNELS, products).forward([], inputs)
    torch.testing.assert_close(outputs, maps.mean((2, 3)))
    outputs, _ = Flatten(CHANNELS, products, True).forward([], inputs)
    assert torch.equal(outputs, maps.movedim(-1, 2).flatten(2))
    outputs, _ = Flatten(CHANNELS, products, False).forward([], inputs)
    assert torch.equal(outputs, maps.flatten(2))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("maps", [None, (2, 3, 1)])
def test_a_linear_layers_derivatives_are_its_differences(relu, maps):
    layer = Linear(("weight", "bias"), relu, linear, maps)
    check(layer, parameters_of(layer, (CHANNELS, 6), (CHANNELS,)), random(TASKS, IMAGES, 6))


@pytest.mark.parametrize("operations", BACKENDS)
def test_parameters_are_restored_as_they_were(operations):
    names, geometry = ("weight", "scale", "shift"), Geometry(3, 1, 1, 2)
    weight, numbers = random(CHANNELS, 5, 3, 3), random(CHANNELS)
    cases = [
        (Block(names, CHANNELS, geometry, EPS, operations), (weight, numbers, -numbers)),
        (FirstBlock(names, CHANNELS, geometry, EPS, operations), (weight, numbers, -numbers)),
        (Mean(CHANNELS, operations.products), ()),
        (Linear(("weight", "bias"), False, linear, (2, 3, 1)), (random(CHANNELS, 6), numbers)),
    ]
    for layer, parameters in cases:
        found = layer.restored(layer.laid_out(parameters))
        assert all(map(torch.equal, found, parameters))


def test_place_by_place_weights_lie_as_the_vectors_do():
    """The outputs are those of PyTorch's module on feature maps flattened channel by channel."""
    maps, weight, bias = random(1, IMAGES, 2, 3, 5), random(CHANNELS, 30), random(CHANNELS)
    plain, moved = (Linear(("weight", "bias"), False, linear, at) for at in (None, (5, 2, 3)))
    expected, _ = plain.forward([weight[None], bias[None]], maps.movedim(-1, 2).flatten(2))
    found, _ = moved.forward([part[None] for part in moved.laid_out((weight, bias))], maps.flatten(2))
    torch.testing.assert_close(found, expected)
