"""Pictures in colour deeper than 8 bits, of which Pillow keeps the upper 8: PNG and TIFF files of 16 bits a channel."""

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The only decoder of such PNG files among what Fanfold needs anyway. Without it they couldn't be read, which is told.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision", DeprecationWarning)


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an opened picture, of which nothing is decoded yet, has colour or transparency deeper than 8 bits."""
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA"):
        return False
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def read_deep_colour(source: str | os.PathLike[str] | bytes, kind: str) -> NDArray[np.uint16]:
    """The values of a file, `[height, width, 3 | 4]`, upright or not; its format is as Pillow calls it.

    Raises:
        Exception: Whatever the decoders raise on damaged bytes, or of compressions that they don't have.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    return _png(content) if kind == "PNG" else _tiff(content)


def _png(content: bytes) -> NDArray[np.uint16]:
    import torch  # only here: few data sets need it to be prepared
    from torchvision.io import ImageReadMode, decode_image

    decoded = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    values: NDArray[np.uint16] = decoded.numpy().transpose(1, 2, 0)
    if values.shape[-1] == 2:  # grey and transparency
        values = values[..., [0, 0, 0, 1]]
    return values


def _tiff(content: bytes) -> NDArray[np.uint16]:
    import tifffile  # only here, as above

    with tifffile.TiffFile(BytesIO(content)) as file:
        page: Any = file.pages[0]
        values: NDArray[np.uint16] = page.asarray()
    return np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values
