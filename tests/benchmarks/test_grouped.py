"""What kernels are measured beside computes what they do."""

import pytest
import torch

from benchmarks.gpu.grouped import Grouped
from fanfold.tasks.derivatives.torch_ops import products as unfolded


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_products_by_convolutions_in_groups_are_those_of_what_is_unfolded(memory_format):
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 2, 5, 4, 6), (3, 2, 5, 4, 7), (3, 3, 3, 6, 7)
    pictures, values, filters = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    grouped = Grouped(pictures, values, filters, memory_format)

    def apart(found):
        """`[images, tasks · channels, height, width]` as unfolded products have it."""
        return found.unflatten(1, (3, -1)).permute(1, 0, 3, 4, 2)

    torch.testing.assert_close(apart(grouped.convolve()), unfolded.convolve([(pictures, filters)], 1, 1))
    torch.testing.assert_close(apart(grouped.by_inputs()), unfolded.by_inputs([(values, filters)], (5, 4), 1, 1))
    expected = unfolded.by_filters([(pictures, values)], 3, 1, 1)
    torch.testing.assert_close(grouped.by_filters().unflatten(0, (3, -1)).permute(0, 3, 4, 2, 1), expected)
