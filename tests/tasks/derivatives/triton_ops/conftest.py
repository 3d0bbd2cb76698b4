"""Where kernels run in tests, and tensors for them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor


@pytest.fixture
def random(device: str) -> Callable[..., Tensor]:
    """Makes tensors of normal numbers, the same in every run."""
    generator = torch.Generator(device).manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, device=device)


@pytest.fixture
def parameters(random: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes tensors that are a part of every task's vector, as parameters are."""

    def make(tasks: int, *shape: int) -> Tensor:
        size = torch.Size(shape).numel()
        return random(tasks, 32 + (size + 15) // 16 * 16)[:, 16 : 16 + size].unflatten(1, shape)

    return make


@pytest.fixture
def poisoned() -> Callable[[], AbstractContextManager[None]]:
    """While it is open, new memory holds what is not a number, so that what isn't written shows."""

    @contextmanager
    def opened() -> Iterator[None]:
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            assert torch.empty(1).isnan()
            yield
        finally:
            torch.use_deterministic_algorithms(False)

    return opened
