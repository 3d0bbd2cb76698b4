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
# Where derivatives by parameters may be written, `[tasks, …]` each: an operation either does so and returns these very
# tensors, or returns others.
Into = Sequence[Tensor] | None


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


class Moments(Protocol):
    """Of the first block's x, `[tasks, channels]`."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def variance(self) -> Tensor: ...


class MomentsTangent(Protocol):
    """The mean of the first block's x_t, and that of x_t · (normalized x), `[tasks, channels]`."""

    @property
    def mean_t(self) -> Tensor: ...

    @property
    def shared(self) -> Tensor: ...


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

    def backward(
        self, triples: Sequence[Triple], stride: int, padding: int, into: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The derivatives by inputs, feature maps, and by each task's filters, `[tasks, …]`; see `Into`."""

    def split(self, maps: Tensor, channels: int) -> Tensor:
        """Feature maps with so many channels as `[tasks, images, height, width, channels]`."""

    def join(self, maps: Tensor) -> Tensor:
        """The inverse of `split`."""


class Norms(Protocol):
    """Batch norm, ReLU and max-pooling."""

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor, eps: float, pool: int, moments: Kept) -> Normalized:
        """From x to z; `moments` are those of `Products.convolve_with_moments`."""

    def backward(self, norm: Kept, x: Tensor, d_z: Tensor, pool: int, into: Into = None) -> tuple[Tensor, Gradients]:
        """From d_z to d_x, d_scale and d_shift."""

    def tangent(self, norm: Kept, x: Tensor, x_t: Tensor, scale_t: Tensor, shift_t: Tensor, pool: int) -> Tangent:
        """From x_t, scale_t and shift_t to z_t."""

    def backward_tangent(
        self,
        norm: Kept,
        back: Kept,
        forth: Kept,
        x: Tensor,
        x_t: Tensor,
        d_z_t: Tensor,
        pool: int,
        into: Into = None,
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

    def backward(self, norm: Kept, patches: Kept, d_z: Tensor) -> tuple[Kept, Kept]:
        """From d_z to sums for `derivative`, over the places that pooling chose; and what the tangents need.

        The sums are Σ d_q · patch `[tasks, K, channels]`, d_scale and d_shift, with q = scale · (normalized x) + shift.
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

    def backward_tangent(self, norm: Kept, back: Kept, forth: Kept, patches: Kept, d_z_t: Tensor) -> Kept:
        """From d_z_t to the tangents of `backward`'s sums."""

    def moments(self, patches: Kept, matrix: Tensor) -> Moments:
        """The mean and variance of x = patch · matrix."""

    def derivative(
        self, patches: Kept, found: Kept, inverse: Tensor, scale: Tensor, sums: Kept, into: Into = None
    ) -> tuple[Sequence[Tensor], Kept]:
        """The derivatives by matrix, scale and shift, from `moments` and sums; and what its tangent needs."""

    def moments_tangent(self, patches: Kept, matrix: Tensor, matrix_t: Tensor, inverse: Tensor) -> MomentsTangent:
        """The mean of x_t = patch · matrix_t, and that of x_t · (normalized x)."""

    def derivative_tangent(
        self,
        patches: Kept,
        found: Kept,
        found_t: Kept,
        back: Kept,
        inverse: Tensor,
        scale: Tensor,
        scale_t: Tensor,
        sums_t: Kept,
        into: Into = None,
    ) -> Sequence[Tensor]:
        """The tangents of `derivative`'s."""


class Linears(Protocol):
    """Outputs = inputs `[tasks, n, d]` · weightᵀ + bias, with ReLU after it or without; weights `[tasks, outputs, d]`.

    The gate says where ReLU has let numbers through; None without ReLU.
    """

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Tensor, Kept]:
        """Outputs `[tasks, n, outputs]`, and the gate."""

    def backward(
        self, inputs: Tensor, weight: Tensor, gate: Kept, d_outputs: Tensor, into: Into = None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The derivatives by inputs; those by weight and bias."""

    def tangent(
        self, inputs: Tensor, weight: Tensor, gate: Kept, inputs_t: Tensor, weight_t: Tensor, bias_t: Tensor
    ) -> Tensor:
        """The outputs' tangent."""

    def backward_tangent(
        self,
        inputs: Tensor,
        weight: Tensor,
        gate: Kept,
        d_outputs: Tensor,
        inputs_t: Tensor,
        weight_t: Tensor,
        d_outputs_t: Tensor,
        summed: bool,
        into: Into = None,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The tangents of `backward`'s; those of weight and bias summed over the tasks if asked, `[1, …]`."""


class Losses(Protocol):
    """The mean cross-entropy of each task's images."""

    def targets(self, labels: Tensor, ways: int, like: Tensor) -> Kept:
        """Labels, int64 `[n]`, as `forward` takes them for logits in the precision of a tensor."""

    def forward(self, logits: Tensor, targets: Kept) -> Kept:
        """The losses of logits `[tasks, n, ways]`, as the other functions take them."""

    def d_logits(self, loss: Kept) -> Tensor:
        """The derivatives of the losses by the logits."""

    def d_logits_t(self, loss: Kept, logits_t: Tensor) -> Tensor:
        """The tangent of `d_logits`."""

    def losses_and_accuracies(self, loss: Kept) -> tuple[Tensor, Tensor]:
        """Each task's, `[tasks]`; accuracies are float64."""


class Vectors(Protocol):
    """What becomes of vectors `[tasks, W]` that hold all parameters; see `tasks.derivatives.stack.OneVector`."""

    def total(self, directions: Tensor, along: Tensor | None, rate: float, there: Tensor, back: Tensor) -> Tensor:
        """The sum over the tasks of directions - rate · along, in the network's own order, `[P]`."""


@dataclass(frozen=True)
class Operations:
    """A backend's operations."""

    products: Products
    norms: Norms  # of the blocks after the first
    first: First
    linear: Linears
    loss: Losses
    # Of a network whose parameters lie in one vector, in the order that suits the operations. None where each lies by
    # itself, nearly as in PyTorch's module. See `tasks.derivatives.stack.Layout`.
    vectors: Vectors | None
