"""Batch norm, ReLU and max-pooling as one operation, with its derivatives; see `tasks.derivatives.protocol.Norms`.

Mathematics and names are those of `tasks.derivatives.numba_ops.kernels`; each task has its own mean and variance. Here
it is written with PyTorch's operations, for any device and precision; `tasks.derivatives.triton_ops.norms` has the same
functions as kernels for a GPU.

Feature maps are `[tasks, images, height, width, channels]`; numbers of a channel `[tasks, channels]`, or
`[1, channels]` where all tasks share them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from fanfold.tasks.derivatives.protocol import Into

PLACES = (1, 2, 3)  # the dimensions that a channel's mean is over: images, height and width


class Forward(NamedTuple):
    """Through batch norm and ReLU."""

    mean: Tensor  # of x, `[tasks, channels]`
    inverse: Tensor  # one over x's standard deviation, `[tasks, channels]`
    scale: Tensor  # batch norm's
    place: Tensor  # the index, in its window, of each pooled number, uint8
    u: Tensor  # the pooled numbers, normalized
    z: Tensor  # ReLU(scale · u + shift), the block's output


class Backward(NamedTuple):
    """Back through ReLU, scale and shift."""

    d_q: Tensor  # the derivative by scale · u + shift
    d_scale: Tensor  # the derivative by the scale, `[tasks, channels]`
    d_shift: Tensor  # the derivative by the shift, `[tasks, channels]`


class Tangent(NamedTuple):
    """Through batch norm and ReLU in a direction."""

    mean_t: Tensor  # of x, `[tasks, channels]`
    shared: Tensor  # the mean of x_t · (x normalized), by which the deviation moves, `[tasks, channels]`
    scale_t: Tensor
    u_t: Tensor
    z_t: Tensor


def forward(x: Tensor, scale: Tensor, shift: Tensor, eps: float, pool: int, moments: None = None) -> Forward:
    """From x, the convolution's output, to z."""
    variance, mean = torch.var_mean(x, PLACES, correction=0)
    seen = windows(x, pool)
    place = largest(seen, scale)
    return normalized(at_places(seen, place), place, mean, variance, scale, shift, eps)


def backward(norm: Forward, x: Tensor, d_z: Tensor, pool: int, into: Into = None) -> tuple[Tensor, Backward]:
    """From d_z to d_x."""
    back = gated(norm, d_z)
    count, gain = _count(x), norm.scale * norm.inverse
    of_x = -gain * norm.inverse * back.d_scale / count
    constant = -gain * back.d_shift / count - of_x * norm.mean
    chosen = to_places(_over_places(gain) * back.d_q, norm.place, x.shape[2:4], pool)
    return chosen + _over_places(of_x) * x + _over_places(constant), back


def tangent(norm: Forward, x: Tensor, x_t: Tensor, scale_t: Tensor, shift_t: Tensor, pool: int) -> Tangent:
    """From x_t to z_t."""
    mean_t = x_t.mean(PLACES)
    shared = norm.inverse * ((x - _over_places(norm.mean)) * x_t).mean(PLACES)
    return normalized_tangent(norm, at_places(windows(x_t, pool), norm.place), mean_t, shared, scale_t, shift_t)


def backward_tangent(
    norm: Forward,
    back: Backward,
    forth: Tangent,
    x: Tensor,
    x_t: Tensor,
    d_z_t: Tensor,
    pool: int,
    into: Into = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """From d_z_t to d_x_t, d_scale_t and d_shift_t."""
    d_q_t, d_scale_t, d_shift_t = gated_tangent(norm, back, forth, d_z_t)
    count, gain = _count(x), norm.scale * norm.inverse
    gain_t = norm.inverse * (forth.scale_t - gain * forth.shared)
    of_u = (gain * norm.inverse * forth.shared - gain_t) * back.d_scale / count - gain * d_scale_t / count
    of_x, of_x_t = of_u * norm.inverse, -gain * norm.inverse * back.d_scale / count
    constant = -(gain_t * back.d_shift + gain * d_shift_t) / count - of_x * norm.mean - of_x_t * forth.mean_t
    chosen = to_places(_over_places(gain_t) * back.d_q + _over_places(gain) * d_q_t, norm.place, x.shape[2:4], pool)
    return chosen + _over_places(of_x) * x + _over_places(of_x_t) * x_t + _over_places(constant), d_scale_t, d_shift_t


def windows(x: Tensor, pool: int) -> Tensor:
    """Pooling's windows of feature maps, `[tasks, images, down, across, pool · pool, channels]`."""
    down, across = x.shape[2] // pool, x.shape[3] // pool
    parts = x[:, :, : down * pool, : across * pool].unflatten(3, (across, pool)).unflatten(2, (down, pool))
    found: Tensor = parts.transpose(3, 4).flatten(4, 5)
    return found


def largest(seen: Tensor, scale: Tensor) -> Tensor:
    """Which number of every window `[tasks, …, numbers, channels]` is largest when scaled: the first one, uint8."""
    sign = torch.where(scale < 0, -1.0, 1.0).to(seen)
    return (seen * sign.view(-1, *[1] * (seen.dim() - 2), sign.shape[-1])).argmax(-2).to(torch.uint8)


def at_places(seen: Tensor, place: Tensor) -> Tensor:
    """The numbers of windows `[…, numbers, channels]` at places `[…, channels]`."""
    return seen.gather(-2, place.long().unsqueeze(-2)).squeeze(-2)


def to_places(values: Tensor, place: Tensor, size: Sequence[int], pool: int) -> Tensor:
    """Feature maps of a size, with values at the places of their windows, and zeros elsewhere."""
    tasks, images, down, across, channels = place.shape
    numbers = torch.arange(pool * pool, device=place.device)[:, None]
    spread = values.unsqueeze(-2) * (place.unsqueeze(-2) == numbers)
    parts = spread.unflatten(-2, (pool, pool)).transpose(3, 4).reshape(tasks, images, down * pool, -1, channels)
    return pad(parts, (0, 0, 0, size[1] - across * pool, 0, size[0] - down * pool))


def normalized(
    chosen: Tensor, place: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, eps: float
) -> Forward:
    """Normalize the chosen numbers, scale and shift, and cut off below zero."""
    inverse = (variance + eps).rsqrt()
    u = (chosen - _over_places(mean)) * _over_places(inverse)
    return Forward(mean, inverse, scale, place, u, (_over_places(scale) * u + _over_places(shift)).relu())


def normalized_tangent(
    norm: Forward, chosen_t: Tensor, mean_t: Tensor, shared: Tensor, scale_t: Tensor, shift_t: Tensor
) -> Tangent:
    """The tangents of u and z, given those of the chosen numbers."""
    u_t = _over_places(norm.inverse) * (chosen_t - norm.u * _over_places(shared) - _over_places(mean_t))
    q_t = _over_places(scale_t) * norm.u + _over_places(norm.scale) * u_t + _over_places(shift_t)
    return Tangent(mean_t, shared, scale_t, u_t, q_t * (norm.z > 0))


def gated(norm: Forward, d_z: Tensor) -> Backward:
    """Back through ReLU, and to scale and shift."""
    d_q = d_z * (norm.z > 0)
    return Backward(d_q, (d_q * norm.u).sum(PLACES), d_q.sum(PLACES))


def gated_tangent(norm: Forward, back: Backward, forth: Tangent, d_z_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tangents of `gated`'s results."""
    d_q_t = d_z_t * (norm.z > 0)
    return d_q_t, (d_q_t * norm.u + back.d_q * forth.u_t).sum(PLACES), d_q_t.sum(PLACES)


def _over_places(of_channels: Tensor) -> Tensor:
    """Numbers of channels, to be multiplied with feature maps."""
    return of_channels[:, None, None, None]


def _count(x: Tensor) -> int:
    """How many numbers a channel of a task has."""
    return x.shape[1] * x.shape[2] * x.shape[3]
