"""How near results are to those of float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fanfold.tasks.derivatives.torch_ops import products

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def exact(value: Any) -> Any:
    """A tensor, or a tuple of them, however nested, in float64; what isn't float32 as it is."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if hasattr(value, "_fields"):
        return type(value)(*map(exact, value))
    return type(value)(map(exact, value)) if isinstance(value, tuple | list) else value


def assert_near(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Tensors or tuples of them, by the norms of their differences."""
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other, tolerance)
        return
    assert found.shape == expected.shape
    assert found.isfinite().all()
    assert (found - expected).double().norm() <= tolerance * expected.double().norm()


def behind_relu(norm: Any) -> tuple[Tensor, Any]:
    """Where ReLU has let numbers through, as places say that kernels have found; and their forward pass's results.

    What was chosen where it has not says nothing: places are 0 there.
    """
    is_open = norm.place != 255
    assert torch.equal(is_open, norm.z > 0)
    return is_open, norm._replace(place=norm.place * is_open)


class TensorCores:
    """The products of `tasks.derivatives.torch_ops` of what tensor cores take of their operands: the first bits."""

    def __init__(self, dropped: int = 13) -> None:
        self._dropped = dropped

    def __getattr__(self, name: str) -> Any:
        return getattr(products, name)

    def convolve(self, pairs: Any, *how: Any) -> Any:
        return products.convolve(self._cut(pairs), *how)

    def convolve_with_moments(self, pairs: Any, *how: Any) -> Any:
        return products.convolve_with_moments(self._cut(pairs), *how)

    def backward(self, triples: Any, *how: Any) -> Any:
        return products.backward(self._cut(triples), *how)

    def _cut(self, operands: Any) -> Any:
        return [tuple(self._cut_one(each) for each in group) for group in operands]

    def _cut_one(self, operand: Tensor) -> Tensor:
        mask = -(1 << self._dropped)
        return (operand.contiguous().view(torch.int32) & mask).view(torch.float32)
