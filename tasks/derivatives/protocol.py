"""The operations that layers compute with. A backend offers them; `tasks.derivatives.backends` chooses one.

- Feature maps, of several tasks, lie in the backend's own order, see `Products.split`. Layers hand them on.
- Numbers of a channel are `[tasks, channels]`, or `[1, channels]` where all tasks share them.
- Filters are `[tasks, …]`, or `[1, …]` where all tasks share them, see `Products.lay_out` and `Products.of_tasks`.

A `d_` before a name stands for the loss's derivative by it, a `_t` after a name for its tangent, the derivative in a
direction. Batch norm, ReLU and max-pooling are computed as one operation, see `tasks.derivatives.numba_ops.kernels`:
x is the convolution's output, and z the block's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from fanfold.tasks.derivatives.geometry import Geometry

Kept = Any  # intermediate results, which only those functions read that belong to the one that returned them
Pair = tuple[Tensor, Tensor]  # inputs and filters
Triple = tuple[Tensor, Tensor, Tensor]  # inputs, filters and derivatives by outputs


class Normalized(Protocol):
    """The result of a block's forward pass."""

    @property
    def z(self) -> Tensor: ...


class FirstNormalized(Normalized, Protocol):
    """The result of the first block's forward pass: with one over x's standard deviation, `[tasks, channels]`."""

    @property
    def inverse(self) -> Tensor: ...


class Gradients(Protocol):
    """The derivatives by batch norm's scale and shift, `[tasks, channels]`."""

    @property
    def d_scale(self) -> Tensor: ...

    @property
    def d_shift(self) -> Tensor: ...


class Tangent(Protocol):
    """The tangent of a block's forward pass."""

    @property
    def z_t(self) -> Tensor: ...


class Patches(Protocol):
    """The images of each task as the first block reads them: with statistics of the patches that its filters see.

    K = side · side · channels are the numbers of a patch; a patch belongs to each place of the convolution's output.
    """

    @property
    def mean(self) -> Tensor:
        """The mean patch, `[tasks, K]`."""

    @property
    def covariance(self) -> Tensor:
        """The patches' covariance, `[tasks, K, K]`."""


class Products(Protocol):
    """A convolution's products. Each is summed over what it is given: a product's tangent is the sum of two."""

    def lay_out(self, weight: Tensor) -> Tensor:
        """One task's filters in the backend's order, from a convolution's weight `[out, in, side, side]`."""

    def restore(self, filters: Tensor) -> Tensor:
        """The inverse of `lay_out`: a convolution's weight `[out, in, side, side]`."""

    def of_tasks(self, filters: Tensor, inputs: Tensor) -> Tensor:
        """Filters `[tasks, …]`, or `[1, …]`, as the products take them for inputs of all tasks."""

    def convolve(self, pairs: Sequence[Pair], stride: int, padding: int) -> Tensor:
        """The convolution's output, feature maps."""

    def convolve_with_moments(self, pairs: Sequence[Pair], stride: int, padding: int) -> tuple[Tensor, Kept]:
        """As `convolve`, with moments of the output for `Norms.forward`, or None."""

    def backward(self, triples: Sequence[Triple], stride: int, padding: int) -> tuple[Tensor, Tensor]:
        """The derivatives by inputs, feature maps, and by each task's filters, `[tasks, …]`."""

    def split(self, maps: Tensor, channels: int) -> Tensor:
        """Feature maps with so many channels as `[tasks, images, height, width, channels]`."""

    def join(self, maps: Tensor) -> Tensor:
        """The inverse of `split`."""


class Norms(Protocol):
    """Batch norm, ReLU and max-pooling."""

    def forward(
        self, x: Tensor, scale: Tensor, shift: Tensor, eps: float, pool: int, moments: Kept = None
    ) -> Normalized:
        """From x to z; `moments` are those of `Products.convolve_with_moments`."""

    def backward(self, norm: Kept, x: Tensor, d_z: Tensor, pool: int) -> tuple[Tensor, Gradients]:
        """From d_z to d_x, d_scale and d_shift."""

    def tangent(self, norm: Kept, x: Tensor, x_t: Tensor, scale_t: Tensor, shift_t: Tensor, pool: int) -> Tangent:
        """From x_t, scale_t and shift_t to z_t."""

    def backward_tangent(
        self, norm: Kept, back: Kept, forth: Kept, x: Tensor, x_t: Tensor, d_z_t: Tensor, pool: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From d_z_t to the tangents of d_x, d_scale and d_shift."""


class First(Protocol):
    """The first block's convolution, batch norm, ReLU and max-pooling, with filters as matrices `[tasks, K, channels]`.

    x = patch · matrix is computed on the way and never stored.
    """

    def patches_of(self, images: Tensor, geometry: Geometry) -> Patches:
        """Images `[tasks, images, height, width, channels]` as the other functions take them."""

    def forward(
        self, patches: Kept, matrix: Tensor, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, eps: float
    ) -> FirstNormalized:
        """From x, whose mean and variance `[tasks, channels]` are given, to z."""

    def backward(self, norm: Kept, patches: Kept, d_z: Tensor) -> tuple[Tensor, Gradients]:
        """From d_z to Σ d_q · patch `[tasks, K, channels]`, over the places that pooling chose; d_scale and d_shift.

        q = scale · (normalized x) + shift.
        """

    def tangent(
        self,
        norm: Kept,
        patches: Kept,
        matrix_t: Tensor,
        mean_t: Tensor,
        shared: Tensor,
        scale_t: Tensor,
        shift_t: Tensor,
    ) -> Tangent:
        """From x_t = patch · matrix_t to z_t; `shared` is the mean of x_t · (normalized x)."""

    def backward_tangent(
        self, norm: Kept, back: Kept, forth: Kept, patches: Kept, d_z_t: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From d_z_t to the tangents of `backward`'s three results."""


@dataclass(frozen=True)
class Operations:
    """A backend's operations."""

    products: Products
    norms: Norms  # of the blocks after the first
    first: First
    # Whether a network's parameters lie in one vector, in the order that suits the operations; otherwise each lies by
    # itself, nearly as in PyTorch's module. See `tasks.derivatives.stack.Layout`.
    one_vector: bool = True
