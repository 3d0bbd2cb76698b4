"""Named parameters as one flat vector, and back."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
Shapes = Mapping[str, torch.Size]


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """Named tensors as one flat vector `[P]`, in their order."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()]) if tensors else torch.zeros(0)


def unflatten(shapes: Shapes, vector: Tensor) -> Parameters:
    """A flat vector `[P]` as named tensors of these shapes, which are views of it."""
    parts = vector.split([math.prod(shape) for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def count(shapes: Shapes) -> int:
    """The number of values in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())
