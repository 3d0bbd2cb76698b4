"""How a block's filters and windows lie, and what that makes of a picture's size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """How a block's filters and windows lie.

    Args:
        side: Of a filter.
        stride: The convolution's.
        padding: The convolution's.
        pool: Side of pooling's windows; 1 where there is none.
    """

    side: int
    stride: int
    padding: int
    pool: int

    def outputs(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what the convolution gives for pictures of some size."""
        height, width = ((part + 2 * self.padding - self.side) // self.stride + 1 for part in size)
        return height, width

    def pooled(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what the block gives for pictures of some size."""
        height, width = (part // self.pool for part in self.outputs(size))
        return height, width
