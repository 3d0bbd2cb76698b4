"""Ink as people see it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def on_paper(ink: NDArray[np.float32]) -> Image.Image:
    """An image in shades of grey, dark on white.

    Args:
        ink: 0 for paper to 1 for ink `[height, width]`; what lies beyond, as resizing may leave it, is taken for that.
    """
    return Image.fromarray(((1 - ink.clip(0, 1)) * 255).round().astype(np.uint8))
