"""Pictures without colour, which a network of colour pictures may judge worse."""

import torch
from PIL import ImageColor
from torch import Tensor

from fanfold.data.pictures import COLOURED, COLOURED_SHARE, Preprocessing


def are_coloured(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Which images `[n, channels, height, width]` from 0 to 1 have colour, but for borders that were added."""
    spread = images.amax(1) - images.amin(1)
    if preprocessing.fit == "pad" and preprocessing.channels == 3:
        border = torch.tensor(ImageColor.getrgb(preprocessing.background)[:3]).float().div(255)
        spread = spread.masked_fill((images == border[:, None, None]).all(1), 0)
    return (spread * 255 > COLOURED + 0.5).float().mean((1, 2)) > COLOURED_SHARE
