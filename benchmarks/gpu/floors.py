"""The bytes that MAML's exact meta-gradient of a task has to move at least, layer by layer.

A task with S inner steps goes forward and backward S times over its support set and once over its queries, and through
tangent and backward tangent S times; `mixed` goes forward and backward over the support set S times more.

Each pass of each layer reads what it needs once and writes what later passes need once, in float32, with one byte a
pooled number for the place that it came from. Nothing else stays in a cache from pass to pass. The first block keeps no
x, its convolution's outputs: nine products make them anew. Filters are each task's own but in the first step's forward
pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.derivatives.structure import Structure
from fanfold.tasks.parameters import Shapes

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Layer:
    """A layer's sizes, in numbers a picture, and the bytes of its passes.

    Args:
        inputs: What it gets.
        before: What its product gives, before batch norm and pooling.
        outputs: What it gives.
        weights: Its parameters.
        first: Whether it sees the images.
        block: Whether batch norm and pooling are in it.
    """

    inputs: int
    before: int
    outputs: int
    weights: int
    first: bool
    block: bool

    def forward(self, n: int, shared: bool) -> int:
        """Reads inputs and weights; writes x and outputs, and the places."""
        moved = n * (self.inputs + self.outputs) + (0 if shared else self.weights) + self._kept(n)
        return FLOAT * moved + self._places(n)

    def backward(self, n: int) -> int:
        """Reads derivatives by outputs, x, places, inputs and weights; writes those by x, inputs and weights."""
        by_inputs = 0 if self.first else n * self.inputs + self.weights
        moved = n * (self.outputs + self.inputs) + by_inputs + self.weights + 2 * self._kept(n)
        return FLOAT * moved + self._places(n)

    def tangent(self, n: int) -> int:
        """Reads inputs, weights, x, places, and the tangents of the first two; writes those of x and of outputs."""
        others = 0 if self.first else n * self.inputs + self.weights
        moved = n * (self.inputs + self.outputs) + others + self.weights + 2 * self._kept(n)
        return FLOAT * moved + self._places(n)

    def backward_tangent(self, n: int) -> int:
        """Reads and writes what `backward` does, and reads the tangents of what that reads, and what it wrote of x."""
        others = 0 if self.first else 2 * n * self.inputs + 2 * self.weights
        moved = n * (self.outputs + self.inputs) + others + self.weights + 3 * self._kept(n)
        return FLOAT * moved + self._places(n)

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
        yield Layer(inputs, channels * prod(wide), outputs, weights, first, block=True)
        inputs, first = outputs, False
    for linear in structure.linears:
        after, before = shapes[linear.names[0]]
        yield Layer(before, after, after, after * (before + 1), first=False, block=False)


def bytes_of_a_task(
    structure: Structure, shapes: Shapes, size: tuple[int, int], support: int, queries: int, algorithm: Maml
) -> int:
    """The bytes of a task's meta-gradient.

    Args:
        structure: The network's.
        shapes: Its parameters' names and shapes.
        size: Height and width of the images.
        support: Images of the support set.
        queries: Images that are asked.
        algorithm: The inner loop; `mixed` where it says so.
    """
    total, steps = 0, algorithm.inner_steps
    for layer in layers(structure, shapes, size):
        again = layer.forward(support, shared=False) + layer.backward(support)
        total += layer.forward(support, shared=True) + layer.backward(support) + again * (steps - 1)
        total += layer.forward(queries, shared=False) + layer.backward(queries)
        total += (layer.tangent(support) + layer.backward_tangent(support)) * steps
        if algorithm.differentiation == "mixed":
            total += again * steps
    # An inner step reads parameters and gradient, and writes parameters; on the way back the direction likewise.
    return total + 6 * FLOAT * steps * sum(prod(shape) for shape in shapes.values())
