"""Convolution's three products for several tasks at once, by PyTorch's own convolution in groups, a group a task.

What `tasks.derivatives.torch_ops.products` has by products of matrices and `tasks.derivatives.triton_ops.products` by
kernels; on a GPU, cuDNN's.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d


class Grouped:
    """The products of 3 × 3 convolutions with a border of one, of arguments that are laid out before.

    Args:
        pictures: Inputs `[tasks, images, height, width, in]`.
        values: Derivatives by outputs `[tasks, images, height, width, out]`.
        filters: `[tasks, 3, 3, in, out]`.
        memory_format: How pictures lie, channels first or last.
    """

    def __init__(self, pictures: Tensor, values: Tensor, filters: Tensor, memory_format: torch.memory_format) -> None:
        self._tasks = len(filters)
        self._pictures, self._values = (
            each.permute(1, 0, 4, 2, 3).flatten(1, 2).contiguous(memory_format=memory_format)
            for each in (pictures, values)
        )
        self._filters = filters.permute(0, 4, 3, 1, 2).flatten(0, 1).contiguous(memory_format=memory_format)

    def convolve(self) -> Tensor:
        """Outputs `[images, tasks · out, height, width]`."""
        return conv2d(self._pictures, self._filters, padding=1, groups=self._tasks)

    def by_inputs(self) -> Tensor:
        """Derivatives by inputs `[images, tasks · in, height, width]`."""
        return self._backward(0)

    def by_filters(self) -> Tensor:
        """Derivatives by filters `[tasks · out, in, 3, 3]`."""
        return self._backward(1)

    def _backward(self, which: int) -> Tensor:
        ones, wanted = [1, 1], [which == 0, which == 1, False]
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            self._values, self._pictures, self._filters, None, ones, ones, ones, False, [0, 0], self._tasks, wanted
        )
        return found[which]
