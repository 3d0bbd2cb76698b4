"""Pictures: damaged files of every format, headers that promise too much, and arrays."""

import io
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fuzz.judging import Read, WrongError, right
from benchmarks.fuzz.mutation import Random, choice, damaged
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing, read_picture

READ = ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA", "AVIF", "MPO")
OTHER = ("EPS", "PDF", "ICO", "ICNS", "PCX", "SGI", "IM", "MSP", "SPIDER", "XBM", "DDS", "BLP", "QOI")
"""Formats that Pillow writes and Fanfold doesn't read."""
SUFFIXES = ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "jp2", "tga", "avif", "PNG", "eps", "txt", "")
PIXELS = (np.arange(14 * 11 * 3, dtype=np.uint32).reshape(14, 11, 3) ** 2 % 251).astype(np.uint8)
LOSSLESS = ("PNG", "BMP", "DIB", "TIFF", "PPM", "TGA")


def preprocessing(random: Random) -> Preprocessing:
    """How a picture is to be read."""
    if random.random() < 0.2:
        return Preprocessing(28, 1, "pad", handwriting=True, invert="auto")
    size, fit = int(random.integers(1, 30)), "crop" if random.random() < 0.5 else "pad"
    return Preprocessing.from_dict({**Preprocessing(size).to_dict(), "fit": fit, "channels": choice(random, (1, 3))})


@cache
def encoded(kind: str, mode: str = "RGB") -> bytes:
    """The picture in a format and a mode, or as the format has it."""
    file = io.BytesIO()
    image = Image.fromarray(PIXELS)
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    for one in (deep, image, image.convert("L"), image.convert("1"), image.convert("F"), image.convert("P")):
        try:
            one.save(file, kind, **({"save_all": True, "append_images": [one]} if kind == "MPO" else {}))
            return file.getvalue()
        except (OSError, ValueError, KeyError):
            file = io.BytesIO()
    raise ValueError(f"{kind} is not written")


def picture(folder: Path, random: Random) -> Read:
    """A picture's bytes, mostly damaged, under any suffix: file and bytes give the same pixels, of the wanted size."""
    wanted = preprocessing(random)
    if random.random() < 0.15:
        kind = choice(random, OTHER)
        content = encoded(kind)
    else:
        kind = choice(random, READ)
        content = encoded(kind, choice(random, ("RGB", "L", "RGBA", "P", "1", "I;16", "LA", "CMYK")))
    whole = random.random() < 0.1
    content = content if whole else damaged(content, random)
    path = folder / f"picture.{choice(random, SUFFIXES)}"
    path.write_bytes(content)

    def read() -> None:
        found = read_picture(path, wanted)
        _check(found, wanted)
        right("file and bytes differ", np.array_equal(found, read_picture(content, wanted)))
        if whole:
            right(f"{kind} was read", kind not in OTHER)
        if whole and content == encoded(kind, "RGB") and kind in LOSSLESS:
            right("file and pixels differ", np.array_equal(found, read_picture(PIXELS, wanted)))

    return read


def header(folder: Path, random: Random) -> Read:
    """A picture whose header promises another size, or whose parts of text unpack to megabytes: it isn't unpacked."""
    wanted = preprocessing(random)
    sides = [choice(random, (0, 1, 11, 14, 2**12, 2**16, 2**16 + 1, 60_000, 2**31 - 1, 2**32 - 1)) for _ in "hw"]
    match int(random.integers(4)):
        case 0:
            content = bytearray(encoded("PNG"))
            content[16:24] = b"".join(side.to_bytes(4, "big") for side in sides)
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        case 1:
            content = bytearray(encoded("GIF"))
            content[6:10] = b"".join(min(side, 2**16 - 1).to_bytes(2, "little") for side in sides)
        case 2:
            content = bytearray(encoded("BMP"))
            content[18:26] = b"".join(side.to_bytes(4, "little") for side in sides)
        case _:
            content = bytearray(encoded("PNG"))
            text = b"a\0\0" + zlib.compress(bytes(int(random.integers(1, 80)) * 10**6), 1)
            part = choice(random, (b"zTXt", b"iCCP", b"iTXt", b"eXIf", b"tEXt", b"PLTE", b"tRNS")) + text
            content[33:33] = len(text).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big")

    def read() -> None:
        _check(read_picture(bytes(content), wanted), wanted)

    return read


def array(folder: Path, random: Random) -> Read:
    """An array of any shape and type: pixels of 8 bits come as from a file, other shapes are refused."""
    wanted = preprocessing(random)
    shape = tuple(int(random.integers(0, 6)) for _ in range(random.integers(0, 5)))
    if random.random() < 0.6:
        shape = (*random.integers(1, 20, 2), *choice(random, ((), (1,), (3,), (4,))))
    kind = choice(random, ("u1", "?", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "M8[s]", "S3", "U2", "O"))
    raw = random.integers(0, 256, shape)
    values = raw.astype(kind) if kind != "M8[s]" else raw.astype("i8").astype(kind)
    if kind in ("f4", "f8") and values.size and random.random() < 0.5:
        values.reshape(-1)[0] = choice(random, (np.nan, np.inf, -np.inf, 1e30))
    fits = kind in ("u1", "?", "u2", "i4", "i8", "f2", "f4", "f8") and values.size and values.ndim in (2, 3)

    def read() -> None:
        try:
            found = read_picture(values, wanted)
        except FanfoldError as error:
            if fits and (values.ndim == 2 or values.shape[2] in (1, 3, 4)):
                raise WrongError(f"refused: {error}") from error
            raise
        _check(found, wanted)
        right(f"{kind} {shape} was read", fits)
        if kind == "u1" and values.ndim == 2:
            file = folder / "same.png"
            Image.fromarray(values).save(file)
            right("file and array differ", np.array_equal(found, read_picture(file, wanted)))

    return read


def _check(found: NDArray[np.uint8], wanted: Preprocessing) -> None:
    right("the shape is another", found.shape == (wanted.channels, wanted.size, wanted.size))
    right("the type is another", found.dtype == np.uint8)
