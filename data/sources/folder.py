"""Your own data set: a folder of class folders, or of alphabet folders that hold class folders."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError, check_at_least
from fanfold.data.resize import FILTER, area_average
from fanfold.data.source import JSON, ClassName

Invert = bool | Literal["auto"]


class FolderSource:
    """Images in folders, as a `Source`: each folder of images a class.

    The classes lie directly in the folder, whose name is their alphabet then, or one level deeper, in alphabet
    folders. They are sorted by alphabet and class, the drawings of a class by file name. Hidden files, and files
    whose suffix belongs to none of Pillow's formats, are skipped.

    Images become grey (transparent ones on white) and are inverted where they show dark ink on light, which "auto"
    decides for each image by the mean of its border. Then they are padded to a square with the median of their border,
    so nothing is cut off, and averaged by area.

    Raises:
        FanfoldError: There is no such folder, it has no class folders, or one of them has no images.
    """

    dataset = "folder"

    def __init__(self, folder: Path | str, size: int = 28, invert: Invert = "auto") -> None:
        self.folder, self.size, self.invert = Path(folder), size, invert
        check_at_least("dataset", self, size=1)
        self._drawings = {_name(self.folder, path): _images(path) for path in _class_folders(self.folder)}
        self.names: Sequence[ClassName] = sorted(self._drawings)

    @property
    def attributes(self) -> Mapping[str, JSON]:
        counts = [len(self._drawings[name]) for name in self.names]
        varying: dict[str, JSON] = {"drawings": counts} if len(set(counts)) > 1 else {}
        return {"source": str(self.folder.resolve()), "resize": FILTER, "invert": self.invert, **varying}

    def read(self, index: int) -> NDArray[np.uint8]:
        return np.stack([self._read(path) for path in self._drawings[self.names[index]]])

    def _read(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as image:
                grey = _grey(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise FanfoldError(f"{path}: can't be read as an image ({one_line(error)}); mend or remove it") from error
        border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        if border.mean() >= 128 if self.invert == "auto" else self.invert:
            grey, border = 255 - grey, 255 - border
        return area_average(_square(grey, int(np.median(border))), (self.size, self.size))


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FanfoldError(f"{folder}: there is no such folder; name one of class folders with `dataset.source`")
    found: list[Path] = []
    for outer in _folders(folder):
        inner = _folders(outer)
        if inner and _images_in(outer):
            raise FanfoldError(f"{outer}: holds images and folders; a folder is either a class or an alphabet")
        found += inner or [outer]
    if not found:
        raise FanfoldError(
            f"{folder}: no class folders in it; it should hold a folder of images for each class, or a folder for "
            f"each alphabet with such folders in it"
        )
    return found


def _name(folder: Path, path: Path) -> ClassName:
    return ClassName(folder.resolve().name if path.parent == folder else path.parent.name, path.name)


def _images(path: Path) -> list[Path]:
    images = _images_in(path)
    if not images:
        raise FanfoldError(f"{path}: a class folder without images; add some (PNG, JPEG, ...), or remove it")
    return images


def _images_in(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix.lower() in _suffixes() and p.is_file() and p.name[0] != ".")


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


@cache
def _suffixes() -> frozenset[str]:
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN)


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """An image as 8-bit grey, upright, on white where it is transparent: `[height, width]`."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits deep; Pillow's conversion clips at 255
        return (np.clip(np.asarray(image).astype(np.int64), 0, 65535) // 257).astype(np.uint8)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _square(image: NDArray[np.uint8], background: int) -> NDArray[np.uint8]:
    """Pad the shorter side to a square, evenly at both ends."""
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(image, ((top, side - height - top), (left, side - width - left)), constant_values=background)
