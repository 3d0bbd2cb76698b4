"""What of the first block's derivatives follows from the mean and the covariance of its images' patches.

A convolution's output x = patch · matrix is linear in the patches, so that its mean and variance, and the means by
which batch norm's derivatives correct others, are small products of matrices; see `tasks.derivatives.layers.FirstBlock`
and `tasks.derivatives.protocol.First`. Here by PyTorch's operations; `tasks.derivatives.triton_ops.covariance` has the
same functions as kernels for a GPU.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fanfold.tasks.derivatives.protocol import Into, Patches


class Moments(NamedTuple):
    """Of x = patch · matrix."""

    mean: Tensor  # `[tasks, channels]`
    variance: Tensor  # `[tasks, channels]`
    by_covariance: Tensor  # covariance · matrix, `[tasks, K, channels]`


class MomentsTangent(NamedTuple):
    """Of x_t = patch · matrix_t."""

    mean_t: Tensor  # `[tasks, channels]`
    shared: Tensor  # the mean of x_t · (x normalized), `[tasks, channels]`
    by_covariance_t: Tensor  # covariance · matrix_t, `[tasks, K, channels]`


class Sums(NamedTuple):
    """Over the places that pooling chose: of d_q · patch, of d_q · (x normalized) and of d_q; or their tangents."""

    at_places: Tensor  # `[tasks, K, channels]`
    d_scale: Tensor  # `[tasks, channels]`
    d_shift: Tensor  # `[tasks, channels]`


class Derivative(NamedTuple):
    """What `derivative_tangent` needs of `derivative`."""

    d_matrix: Tensor  # not yet multiplied by the gain, `[tasks, K, channels]`
    d_scale: Tensor


def moments(patches: Patches, matrix: Tensor) -> Moments:
    by_covariance = patches.covariance @ matrix
    return Moments(_times(patches.mean, matrix), (matrix * by_covariance).sum(1), by_covariance)


def derivative(
    patches: Patches, found: Moments, inverse: Tensor, scale: Tensor, sums: Sums, into: Into = None
) -> tuple[Sequence[Tensor], Derivative]:
    # The means of d_x · patch follow from those of patches and of their products.
    d_matrix = _less(sums.at_places, patches.mean.unsqueeze(2), sums.d_shift)
    d_matrix = _less(d_matrix, found.by_covariance, inverse * sums.d_scale)
    gained = (inverse * scale).unsqueeze(1) * d_matrix
    return (gained, sums.d_scale, sums.d_shift), Derivative(d_matrix, sums.d_scale)


def moments_tangent(patches: Patches, matrix: Tensor, matrix_t: Tensor, inverse: Tensor) -> MomentsTangent:
    by_covariance_t = patches.covariance @ matrix_t
    shared = inverse * (matrix * by_covariance_t).sum(1)
    return MomentsTangent(_times(patches.mean, matrix_t), shared, by_covariance_t)


def derivative_tangent(
    patches: Patches,
    found: Moments,
    found_t: MomentsTangent,
    back: Derivative,
    inverse: Tensor,
    scale: Tensor,
    scale_t: Tensor,
    sums_t: Sums,
    into: Into = None,
) -> Sequence[Tensor]:
    gain, of_covariance = inverse * scale, inverse * back.d_scale
    inverse_t = -inverse * inverse * found_t.shared
    d_matrix_t = _less(sums_t.at_places, patches.mean.unsqueeze(2), sums_t.d_shift)
    d_matrix_t = _less(d_matrix_t, found.by_covariance, inverse_t * back.d_scale + inverse * sums_t.d_scale)
    d_matrix_t = _less(d_matrix_t, found_t.by_covariance_t, of_covariance)
    gain_t = inverse_t * scale + inverse * scale_t
    product = torch.addcmul(gain_t.unsqueeze(1) * back.d_matrix, gain.unsqueeze(1), d_matrix_t)
    return product, sums_t.d_scale, sums_t.d_shift


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """`[tasks, k]` · `[tasks, k, n]`, `[tasks, n]`."""
    return (rows.unsqueeze(1) @ matrices).squeeze(1)


def _less(matrices: Tensor, others: Tensor, numbers: Tensor) -> Tensor:
    """The matrices `[tasks, k, n]` less others · numbers `[tasks, n]`, column by column."""
    return torch.addcmul(matrices, others, numbers.unsqueeze(1), value=-1)
