"""How much MAML's exact meta-gradient of a task is: operations, and bytes that must move, layer by layer.

A block's convolution of n pictures is F = 2 · n · places · side² · channels in · channels out operations; a linear
layer likewise, with one place and a side of one. So often is F computed, by layers after the first; the first, whose
inputs have neither derivative nor tangent, needs fewer:

    pass                       products                                            others   first
    forward                    x = W · i                                              1       1
    backward                   d_W = d_x · i, d_i = W · d_x                           2       1
    tangent                    x' = W' · i + W · i'                                   2       1
    backward tangent           d_W' = d_x' · i + d_x · i', d_i' = W · d_x' + W' · d_x  4       1

A task with S inner steps goes forward and backward S times over its support set and once over its queries, and
through tangent and backward tangent S times; `mixed` goes forward and backward over the support set S times more.

Least bytes: each pass of each layer reads what it needs once and writes what later passes need once, in float32, with
one byte a pooled number for the place that it came from. Nothing else stays in a cache from pass to pass. The first
block keeps no x: nine products make it anew. Filters are each task's own but in the first step's forward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.derivatives.structure import Structure
from fanfold.tasks.parameters import Shapes

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Args:
        operations: Multiplications and additions.
        bytes: That move between memory and chip, at least.
    """

    operations: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Work":
        return Work(self.operations * times, self.bytes * times)


@dataclass(frozen=True)
class Layer:
    """A layer's sizes, in numbers a picture.

    Args:
        inputs: What it gets.
        before: What its product gives, before batch norm and pooling.
        outputs: What it gives.
        weights: Its parameters.
        depth: Products a number of `before`.
        first: Whether it sees the images.
        block: Whether batch norm and pooling are in it.
    """

    inputs: int
    before: int
    outputs: int
    weights: int
    depth: int
    first: bool
    block: bool

    def forward(self, n: int, shared: bool) -> Work:
        """Reads inputs and weights; writes x and outputs, and the places."""
        moved = n * (self.inputs + self.outputs) + (0 if shared else self.weights) + self._kept(n)
        return Work(self._product(n), FLOAT * moved + self._places(n))

    def backward(self, n: int) -> Work:
        """Reads derivatives by outputs, x, places, inputs and weights; writes those by x, inputs and weights."""
        by_inputs = 0 if self.first else n * self.inputs + self.weights
        moved = n * (self.outputs + self.inputs) + by_inputs + self.weights + 2 * self._kept(n)
        return Work((1 if self.first else 2) * self._product(n), FLOAT * moved + self._places(n))

    def tangent(self, n: int) -> Work:
        """Reads inputs, weights, x, places, and the tangents of the first two; writes those of x and of outputs."""
        others = 0 if self.first else n * self.inputs + self.weights
        moved = n * (self.inputs + self.outputs) + others + self.weights + 2 * self._kept(n)
        return Work((1 if self.first else 2) * self._product(n), FLOAT * moved + self._places(n))

    def backward_tangent(self, n: int) -> Work:
        """Reads and writes what `backward` does, and reads the tangents of what that reads, and what it wrote of x."""
        others = 0 if self.first else 2 * n * self.inputs + 2 * self.weights
        moved = n * (self.outputs + self.inputs) + others + self.weights + 3 * self._kept(n)
        return Work((1 if self.first else 4) * self._product(n), FLOAT * moved + self._places(n))

    def _product(self, n: int) -> float:
        return 2.0 * n * self.before * self.depth

    def _kept(self, n: int) -> int:
        """x, where it is kept."""
        return n * self.before if self.block and not self.first else 0

    def _places(self, n: int) -> int:
        return n * self.outputs if self.block and self.before > self.outputs else 0


def layers(structure: Structure, shapes: Shapes, size: tuple[int, int]) -> Iterator[Layer]:
    """The layers of a network.

    Args:
        structure: The network's.
        shapes: Its parameters' names and shapes.
        size: Height and width of the images.
    """
    inputs, first = 0, True
    for block in structure.blocks:
        channels, inside, side, _ = shapes[block.names[0]]
        inputs = inside * prod(size)
        wide, size = block.geometry.outputs(size), block.geometry.pooled(size)
        outputs, weights = channels * prod(size), channels * (inside * side * side + 2)
        yield Layer(inputs, channels * prod(wide), outputs, weights, inside * side * side, first, block=True)
        inputs, first = outputs, False
    for linear in structure.linears:
        after, before = shapes[linear.names[0]]
        yield Layer(before, after, after, after * (before + 1), before, first=False, block=False)


def work_of_a_task(
    structure: Structure, shapes: Shapes, size: tuple[int, int], support: int, queries: int, algorithm: Maml
) -> Work:
    """What MAML's exact meta-gradient of a task takes.

    Args:
        structure: The network's.
        shapes: Its parameters' names and shapes.
        size: Height and width of the images.
        support: Images of the support set.
        queries: Images that are asked.
        algorithm: The inner loop; `mixed` where it says so.
    """
    total = Work(0, 0)
    steps = algorithm.inner_steps
    for layer in layers(structure, shapes, size):
        total += layer.forward(support, shared=True) + layer.backward(support)
        total += (layer.forward(support, shared=False) + layer.backward(support)) * (steps - 1)
        total += layer.forward(queries, shared=False) + layer.backward(queries)
        total += (layer.tangent(support) + layer.backward_tangent(support)) * steps
        if algorithm.differentiation == "mixed":
            total += (layer.forward(support, shared=False) + layer.backward(support)) * steps
    # An inner step reads parameters and gradient, and writes parameters; on the way back the direction likewise.
    parameters = sum(prod(shape) for shape in shapes.values())
    return total + Work(0, 6.0 * FLOAT * parameters * steps)
