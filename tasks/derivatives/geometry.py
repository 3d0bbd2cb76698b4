"""The geometry of a block, and the sizes of its feature maps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """The geometry of a block's convolution and pooling, in pixels."""

    side: int  # height and width of a filter
    stride: int  # of the convolution
    padding: int  # of the convolution, on each side
    pool: int  # height and width of a pooling window; 1 without pooling

    def outputs(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the convolution's output, for inputs of a size."""
        height, width = ((part + 2 * self.padding - self.side) // self.stride + 1 for part in size)
        return height, width

    def pooled(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the block's output, for inputs of a size."""
        height, width = (part // self.pool for part in self.outputs(size))
        return height, width
