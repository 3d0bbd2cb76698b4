"""Pictures of one colour all over, which tell nothing of a class but that."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fanfold.data.pictures import Picture, Preprocessing, decode


def are_constant(
    pictures: Sequence[Picture], images: Tensor, errors: Mapping[int, str], preprocessing: Preprocessing
) -> list[bool]:
    """Which pictures that could be read, as `images`, have one colour all over, but for borders that were added."""
    found: list[bool] = (images == images[:, :, :1, :1]).all(dim=(1, 2, 3)).tolist()
    if preprocessing.fit != "pad" or preprocessing.handwriting:  # whose borders are of the picture's own colour
        return found
    # A picture of one colour is bands beside its borders; the few that are bands are read again, without borders.
    banded = [(images == line).all(dim=(1, 2, 3)) for line in (images[:, :, :1], images[..., :1])]
    read = [picture for place, picture in enumerate(pictures) if place not in errors]
    bands = zip(found, torch.stack(banded).any(0).tolist(), read, strict=True)
    return [one or (within and is_constant(decode(picture, 64))) for one, within, picture in bands]


def is_constant(picture: Image.Image) -> bool:
    """Whether a picture has one colour all over."""
    return all(low == high for low, high in np.reshape(picture.getextrema(), (-1, 2)))
