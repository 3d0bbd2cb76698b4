"""Pictures of any kind as arrays of one size: the preprocessing of a store, and of every new picture.

Pillow reads the formats in `FORMATS`, and no other: a file is never handed to another program. A picture's size is
checked before anything of it is decoded.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from io import BytesIO
from os import PathLike, fspath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from fanfold.data.advice import why
from fanfold.data.deep import is_deep_colour, read_deep_colour
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import KindError, of_fields
from fanfold.data.plain import JSON
from fanfold.data.resize import area_average

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "TGA", "AVIF")
"""Pillow's names of the formats that are read; JPEG comprises phones' MPO."""

MOST_PIXELS = 2**27
"""Pixels of a picture at most."""
MOST_SIDE = 2**16
"""Height and width of a picture at most."""
MOST_SIZE = 1024
"""Height and width of a preprocessed picture at most."""
COLOURED = 16
"""A pixel has colour if its channels differ by more; compression makes grey ones differ by less."""
COLOURED_SHARE = 0.01
"""A picture has colour if more than this share of its pixels has."""
SHRINK = 2
"""A JPEG file is decoded at an eighth, a quarter or half where that leaves so many times the wanted size."""

Picture: TypeAlias = "str | PathLike[str] | bytes | Image.Image | NDArray[Any]"
"""A picture's file, its encoded bytes, or its pixels: `[height, width]`, `[height, width, 1 | 3 | 4]` or
`[1 | 3, height, width]`, 8 bits deep, deeper integers, or floating point."""


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # sizes are checked here


class PictureError(FanfoldError):
    """A picture can't be read; the message names it, and says why."""


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become arrays of one size; it is written into a store and copied into every run.

    Args:
        size: Height and width, in pixels.
        channels: 1 for grey, 3 for red, green and blue.
        fit: How the aspect ratio is kept: `crop` cuts the middle square out, `pad` adds borders.
        background: Colour behind transparent pictures and of added borders, by a name or as `#rrggbb`.
        black: The value of pictures deeper than 8 bits that becomes 0.
        white: The value of those that becomes 255; None for the least 2ᵏ - 1 that a picture's largest value doesn't
            exceed, or 1 for fractions.
        handwriting: Ink bright on 0: grey, padded with the median of the border, averaged by area.
        invert: Whether handwriting shows dark ink on light; `auto` decides by the border's mean.
    """

    size: int = 84
    channels: Literal[1, 3] = 3
    fit: Literal["crop", "pad"] = "crop"
    background: str = "white"
    black: float = 0.0
    white: float | None = None
    handwriting: bool = False
    invert: bool | Literal["auto"] = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MOST_SIZE:
            raise FanfoldError(f"`dataset.size` must be from 1 to {MOST_SIZE}, not {self.size}.")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise FanfoldError(
                f"`dataset.background` must be a colour's name or #rrggbb, not {self.background!r:.100}."
            ) from error
        if self.white is not None and not self.black < self.white < np.inf:
            raise FanfoldError(f"The values of black and white must rise: {self.black} and {self.white} don't.")
        if self.handwriting and (self.channels, self.fit) != (1, "pad"):
            raise FanfoldError("Handwriting has one channel, and is padded.")
        if self.invert is not False and not self.handwriting:
            raise FanfoldError("`dataset.invert` belongs to handwriting alone; pictures stay as they are.")

    def to_dict(self) -> dict[str, JSON]:
        """Plain values by name, as they stand in a store's attributes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, JSON]) -> "Preprocessing":
        """The inverse of `to_dict`.

        Raises:
            FanfoldError: A value is missing, unknown, of another type, or out of its range.
        """
        try:
            return of_fields(cls, values)
        except KindError as error:
            raise FanfoldError(f"The preprocessing's {error}") from error


HANDWRITING = Preprocessing(size=28, channels=1, fit="pad", background="white", handwriting=True, invert="auto")
"""The preset of Omniglot and glyphs."""


def read_picture(source: Picture, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A picture, preprocessed: uint8 `[channels, size, size]`.

    A picture of several frames is read as its first one; one with EXIF orientation, upright.

    Raises:
        PictureError: The picture can't be read, has no pixels or too many; it is named.
    """
    try:
        if not isinstance(source, (str, bytes, PathLike, Image.Image)):
            source = np.asarray(source)
            if source.dtype.kind not in "?biuf":
                raise PictureError(f"{_named(source)}: pixels must be numbers, not {source.dtype.name}")
            if source.dtype not in (np.uint8, np.bool_):  # Pillow has no deep pictures in colour
                source = eight_bits(source, preprocessing)
        if preprocessing.handwriting:
            grey = flat(decode(source, scale=preprocessing), preprocessing)
            return _handwriting(np.asarray(grey), preprocessing)[None]
        return _fitted(flat(decode(source, preprocessing.size * SHRINK, preprocessing), preprocessing), preprocessing)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # decoders raise many kinds of errors on damaged bytes
        raise PictureError(f"{_named(source)}: can't be read as a picture ({why_unread(error)})") from error


def decode(source: Picture, least: int | None = None, scale: Preprocessing | None = None) -> Image.Image:
    """A picture's first frame, upright, in its own mode; colour deeper than 8 bits is scaled to 8, by its own range.

    Args:
        source: The picture.
        least: A JPEG file may be decoded smaller by a power of two, as long as both its sides keep so many pixels.
        scale: Whose range deep colour is scaled by, in the place of its own.

    Raises:
        PictureError: It has no pixels, or too many.
        Exception: Whatever a decoder raises on damaged bytes.
    """
    if isinstance(source, Image.Image):
        _check_size(source.size, source)
        return ImageOps.exif_transpose(source)
    if isinstance(source, (str, bytes, PathLike)):
        with _opened(source) as image:
            _check_size(image.size, source)
            if is_deep_colour(image):
                shallow = Image.fromarray(
                    eight_bits(read_deep_colour(source, str(image.format)), scale or Preprocessing())
                )
                shallow.getexif().update(image.getexif())
                return ImageOps.exif_transpose(shallow)
            if least is not None and image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
                image.draft(None, (least, least))
            return ImageOps.exif_transpose(image)
    return _from_array(np.asarray(source), source)


def _opened(source: str | bytes | PathLike[str]) -> Image.Image:
    """A picture's file, of which nothing is decoded yet."""
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else fspath(source), formats=FORMATS)
    except MemoryError as error:  # a header is small: what is longer than memory is its damaged length
        raise PictureError(f"{_named(source)}: can't be read as a picture (its header is damaged)") from error


def deep_values(source: Picture) -> NDArray[Any] | None:
    """The values of a picture deeper than 8 bits, without those of transparency; None for others.

    Raises:
        PictureError: It has no pixels, or too many.
        Exception: Whatever a decoder raises on damaged bytes.
    """
    if isinstance(source, (str, bytes, PathLike)):
        with _opened(source) as image:
            _check_size(image.size, source)
            if is_deep_colour(image):
                return read_deep_colour(source, str(image.format))[..., :3]
            return np.asarray(image) if is_deep(image) else None
    values = np.asarray(source)
    if values.dtype in (np.uint8, np.bool_):
        return None
    return values[..., :3] if values.ndim == 3 and values.shape[-1] == 4 else values


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has values of more than 8 bits."""
    return image.mode[0] in "IF"


def is_coloured(image: Image.Image) -> bool:
    """Whether a picture has colour, not only channels for it."""
    if is_deep(image) or image.mode in ("1", "L", "LA", "La"):
        return False
    pixels = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX)).astype(np.int16)
    return bool((np.ptp(pixels, axis=-1) > COLOURED).mean() > COLOURED_SHARE)


def range_in_use(low: float, high: float, *, fractions: bool) -> tuple[float, float]:
    """The values of black and white for deep pictures with values from `low` to `high`.

    White is the least 2ᵏ - 1 from 255 on that integers don't exceed: 4,095 for 12 bits. For fractions it is 1, or the
    highest value where that is larger. Black is 0, or the lowest value where that is less.
    """
    white = max(1, high) if fractions else 2 ** max(8, int(high).bit_length()) - 1
    return min(0.0, float(low)), float(white)


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of files that are read, in lower case, with their points."""
    Image.init()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))


def eight_bits(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Deep values as 8 bits: from black to white, clipped; values that are no numbers are black.

    Those of transparency, the last of `[height, width, 4]`, are scaled by what their type holds, or by 1.
    """
    if values.ndim == 3 and values.shape[-1] == 4:
        full = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1
        alpha = eight_bits(values[..., 3:], replace(preprocessing, black=0.0, white=float(full)))
        return np.concatenate([eight_bits(values[..., :3], preprocessing), alpha], axis=-1)
    black, white = preprocessing.black, preprocessing.white
    finite = np.nan_to_num(values.astype(np.float64), nan=black, posinf=np.inf, neginf=-np.inf)
    if white is None:
        known = finite[np.isfinite(finite)]
        fractions = bool(np.issubdtype(values.dtype, np.floating))
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
        black, white = range_in_use(low, high, fractions=fractions)
    shares = np.clip((finite - black) / (white - black), 0, 1)
    return np.floor(shares * 255 + 0.5).astype(np.uint8)


def flat(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """A picture as 8 bits of grey or of red, green and blue, on the background where it is transparent."""
    if is_deep(image):
        image = Image.fromarray(eight_bits(np.asarray(image), preprocessing))
    if image.has_transparency_data:
        behind = Image.new("RGBA", image.size, preprocessing.background)
        image = Image.alpha_composite(behind, image.convert("RGBA"))
    return image.convert("RGB" if preprocessing.channels == 3 else "L")


def _fitted(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A picture cropped or padded to a square of the wanted size, smoothed as it is made smaller."""
    size, (width, height) = preprocessing.size, image.size
    if preprocessing.fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    else:
        scale = size / max(width, height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        picture = image.resize(inner, Image.Resampling.BICUBIC)
        colour = ImageColor.getrgb(preprocessing.background)[:3]
        image = Image.new("RGB", (size, size), colour).convert(picture.mode)
        image.paste(picture, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None])


def _handwriting(grey: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Handwriting `[height, width]`, ink bright, padded with the median of its border, averaged by area."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if border.mean() >= 128 if preprocessing.invert == "auto" else preprocessing.invert:
        grey, border = 255 - grey, 255 - border
    return area_average(grey, (preprocessing.size, preprocessing.size), background=int(np.median(border)))


def _from_array(pixels: NDArray[Any], source: object) -> Image.Image:
    """Pixels as an image of 8 bits."""
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 3, 4) and pixels.shape[0] in (1, 3):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (3, 4)):
        raise PictureError(f"{_named(source)}: not the shape of a picture, [height, width] or [height, width, 3]")
    _check_size((pixels.shape[1], pixels.shape[0]), source)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype != np.uint8:
        pixels = eight_bits(pixels, Preprocessing())
    return Image.fromarray(np.ascontiguousarray(pixels))


def _check_size(size: tuple[int, int], source: object) -> None:
    width, height = size
    if min(size) < 1:
        raise PictureError(f"{_named(source)}: a picture without pixels")
    if width * height > MOST_PIXELS or max(size) > MOST_SIDE:
        raise PictureError(f"{_named(source)}: too large, {width:,} × {height:,} pixels")


def _named(source: object) -> str:
    """A picture's name for messages."""
    if isinstance(source, (str, PathLike)):
        return str(source)
    return getattr(source, "filename", None) or "a picture"


def why_unread(error: Exception) -> str:
    """Why a decoder can't read a picture, without the file's name, which stands before it."""
    if isinstance(error, UnidentifiedImageError):
        return "not of a format that is read"
    return why(error)[:200]
