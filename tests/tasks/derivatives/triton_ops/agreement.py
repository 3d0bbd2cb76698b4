"""How near results are to those of float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

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
