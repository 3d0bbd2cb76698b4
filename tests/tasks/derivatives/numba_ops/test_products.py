"""Convolutions in groups are those by products of matrices, whose filters lie another way."""

import pytest
import torch

from fanfold.tasks.derivatives.numba_ops import products as grouped
from fanfold.tasks.derivatives.torch_ops import products as unfolded

TASKS, IMAGES, INSIDE, OUTSIDE = 3, 2, 4, 5
SIZE = (7, 6)


def pictures(channels, size):
    return torch.randn(TASKS, IMAGES, *size, channels, dtype=torch.float64)


@pytest.mark.parametrize(("side", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (3, 2, 0), (1, 1, 0)])
@pytest.mark.parametrize("shared", [(True,), (False,), (False, True)], ids=str)
def test_products_are_those_by_matrices(side, stride, padding, shared):
    torch.manual_seed(0)
    weights = [torch.randn(1 if one else TASKS, OUTSIDE, INSIDE, side, side, dtype=torch.float64) for one in shared]
    ours, theirs = ([torch.vmap(how.lay_out)(weight) for weight in weights] for how in (grouped, unfolded))
    inputs = [pictures(INSIDE, SIZE) for _ in shared]
    expected = unfolded.convolve(list(zip(inputs, theirs, strict=True)), stride, padding)
    found = grouped.convolve(list(zip(inputs, ours, strict=True)), stride, padding)
    torch.testing.assert_close(found, expected)

    d_outputs = [torch.randn_like(expected) for _ in shared]
    expected = unfolded.by_inputs(list(zip(d_outputs, theirs, strict=True)), SIZE, stride, padding)
    torch.testing.assert_close(
        grouped.by_inputs(list(zip(d_outputs, ours, strict=True)), SIZE, stride, padding), expected
    )

    pairs = list(zip(inputs, d_outputs, strict=True))
    expected = unfolded.by_filters(pairs, side, stride, padding)  # [tasks, side, side, in, out]
    found = grouped.by_filters(pairs, side, stride, padding)
    torch.testing.assert_close(found, expected.permute(0, 4, 1, 2, 3))


def test_pictures_lie_as_the_next_convolution_takes_them():
    inputs, weight = torch.randn(TASKS, IMAGES, *SIZE, 16), torch.randn(1, 16, 3, 3, 16)
    outputs = grouped.convolve([(inputs, weight)], 1, 1)
    assert grouped.joined(outputs).data_ptr() == outputs.data_ptr()
