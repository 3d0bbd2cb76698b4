from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import HANDWRITING, PictureError, Preprocessing, is_coloured, range_in_use, read_picture

COLOUR, GREY = Preprocessing(size=8), Preprocessing(size=8, channels=1)
HUGE_BOX = b"\0\0\0\x01jp2h" + (2**60).to_bytes(8, "big")  # of a JPEG 2000's header: an exbibyte


def halves(left: tuple[int, ...] = (255, 0, 0), right: tuple[int, ...] = (0, 0, 255), side: int = 16) -> np.ndarray:
    """A picture `[side, side, 3 | 4]` of two colours."""
    pixels = np.empty((side, side, len(left)), np.uint8)
    pixels[:, : side // 2], pixels[:, side // 2 :] = left, right
    return pixels


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp", "jpg", "ppm", "tga"])
def test_every_format_keeps_its_colours_and_is_not_inverted(tmp_path: Path, suffix: str) -> None:
    options = {"quality": 100} if suffix in ("jpg", "webp") else {}
    found = read_picture(saved(tmp_path / f"1.{suffix}", Image.fromarray(halves()), **options), COLOUR)
    assert found.shape == (3, 8, 8)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[:, :, 0].T, [[255, 0, 0]] * 8, atol=6)
    np.testing.assert_allclose(found[:, :, -1].T, [[0, 0, 255]] * 8, atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_is_read_in_grey_and_in_colour(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(halves((255,) * 3, (0,) * 3)).convert(mode)
    path = saved(tmp_path / f"1.{'png' if mode not in ('CMYK', 'YCbCr') else 'tiff'}", image)
    expected = np.repeat([[255] * 4 + [0] * 4], 8, 0)
    for found in (*read_picture(path, COLOUR), *read_picture(path, GREY)):
        np.testing.assert_allclose(found[:, [0, 1, 6, 7]], expected[:, [0, 1, 6, 7]], atol=12)


def test_the_aspect_ratio_is_kept() -> None:
    wide = np.full((8, 16), 200, np.uint8)
    wide[:, 4:12] = 9
    assert (read_picture(wide, GREY) == 9).all()  # the middle square
    padded = read_picture(wide, Preprocessing(8, 1, "pad", "rgb(100, 100, 100)"))[0]
    assert (padded[:2] == 100).all()
    assert (padded[6:] == 100).all()
    np.testing.assert_allclose(padded[2:6, [0, 4, 7]], [[200, 9, 200]] * 4, atol=3)


@pytest.mark.parametrize(("background", "expected"), [("white", 255), ("black", 0), ("#0000ff", None)])
def test_transparent_pictures_lie_on_the_background(background: str, expected: int | None) -> None:
    found = read_picture(Image.fromarray(halves((9, 9, 9, 0), (9, 9, 9, 255))), Preprocessing(8, background=background))
    assert found[:, 0, 0].tolist() == ([expected] * 3 if expected is not None else [0, 0, 255])
    assert found[:, 0, -1].tolist() == [9, 9, 9]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_pictures_are_scaled_by_the_range_in_use(tmp_path: Path, dtype: type) -> None:
    values = np.repeat(np.linspace(0, 4095, 8)[None], 8, 0)
    fractions = dtype is np.float32
    pixels: NDArray[Any] = (values / 4095 if fractions else values).astype(dtype)
    path = saved(tmp_path / "deep.tiff", Image.fromarray(pixels))
    for source in (path, pixels):
        np.testing.assert_allclose(read_picture(source, GREY)[0, 0], values[0] * 255 / 4095, atol=1)
    darker = replace(GREY, white=2.0 if fractions else 8191.0)  # of the whole data set
    np.testing.assert_allclose(read_picture(path, darker)[0, 0, -1], 128, atol=1)


def test_the_range_in_use() -> None:
    assert range_in_use(0, 4095, fractions=False) == (0, 4095)
    assert range_in_use(3, 200, fractions=False) == (0, 255)
    assert range_in_use(-5, 40_000, fractions=False) == (-5, 65535)
    assert range_in_use(0.1, 0.9, fractions=True) == (0, 1)
    assert range_in_use(-1000.0, 3071.5, fractions=True) == (-1000, 3071.5)


def test_exif_orientation_and_first_frames(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    path = saved(tmp_path / "turned.png", Image.fromarray(halves()), exif=exif)
    assert read_picture(path, COLOUR)[:, 0, 0].tolist() == [255, 0, 0]  # what was left is above
    assert read_picture(path, COLOUR)[:, -1, 0].tolist() == [0, 0, 255]
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "film.gif", COLOUR)[:, 0, 0].tolist() == [255, 0, 0]


def test_a_file_its_bytes_its_image_and_its_array_are_one_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    path = saved(tmp_path / "1.png", Image.fromarray(pixels))
    expected = read_picture(path, COLOUR)
    for source in (str(path), path.read_bytes(), Image.fromarray(pixels), pixels, pixels.transpose(2, 0, 1)):
        np.testing.assert_array_equal(read_picture(source, COLOUR), expected)


def test_smaller_pictures_are_smoothed() -> None:
    stripes = np.repeat(np.array([[0, 255] * 32], np.uint8), 64, 0)
    found = read_picture(stripes, GREY)[0]
    assert found.min() > 100
    assert found.max() < 155


def test_a_jpeg_file_decoded_smaller_looks_as_the_whole(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(640), np.arange(960))[..., None] * np.array([1, 0.5, 0.1]) / 1600 * 255
    path = saved(tmp_path / "1.jpg", Image.fromarray(ramp.astype(np.uint8)), quality=95)
    whole = read_picture(Image.open(path).convert("RGB"), COLOUR)
    np.testing.assert_allclose(read_picture(path, COLOUR), whole.astype(float), atol=3)


def test_handwriting_is_bright_on_nothing_and_padded() -> None:
    ink = np.full((4, 12), 240, np.uint8)
    ink[2:4, 2:-2] = 0
    expected = np.full((12, 12), 15, np.uint8)
    expected[6:8, 2:10] = 255
    np.testing.assert_array_equal(read_picture(ink, replace(HANDWRITING, size=12))[0], expected)
    upside = read_picture(255 - ink, replace(HANDWRITING, size=12))
    np.testing.assert_array_equal(upside[0], expected)


def test_colour_is_told_from_channels_for_it() -> None:
    assert is_coloured(Image.fromarray(halves()))
    assert not is_coloured(Image.fromarray(halves((200,) * 3, (10, 14, 10))))
    assert not is_coloured(Image.new("L", (9, 9)))


def encoded(image: Image.Image, name: str) -> bytes:
    file = BytesIO()
    image.save(file, name)
    return file.getvalue()


PNG = encoded(Image.fromarray(halves()), "PNG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not of a format that is read"),
        (b"no picture", "not of a format that is read"),
        (PNG[:60], "can't be read as a picture"),
        (encoded(Image.fromarray(halves()), "EPS"), "not of a format that is read"),
        (encoded(Image.fromarray(halves()), "JPEG2000").replace(b"\0\0\0-jp2h", HUGE_BOX), "its header is damaged"),
        (encoded(Image.new("1", (70_000, 1)), "PNG"), "too large, 70,000 × 1 pixels"),
        (encoded(Image.new("1", (12_000, 12_000)), "PNG"), "too large, 12,000 × 12,000 pixels"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=rf"odd\.png: .*{message}"):
        read_picture(path, COLOUR)
    with pytest.raises(PictureError, match="No such file"):
        read_picture(tmp_path / "absent.png", COLOUR)
    with pytest.raises(PictureError, match="not the shape of a picture"):
        read_picture(np.zeros((2, 2, 2, 2)), COLOUR)
    for kind in ("c8", "M8[s]", "S3", "U2", "O"):
        with pytest.raises(PictureError, match="pixels must be numbers"):
            read_picture(np.zeros((4, 4), kind), COLOUR)


def test_preprocessing_is_written_and_read_back() -> None:
    for one in (COLOUR, HANDWRITING, Preprocessing(32, 1, "pad", "#102030", -5.5, 4095.0)):
        assert Preprocessing.from_dict(one.to_dict()) == one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, r"`dataset\.size` must be from 1"),
        ({"size": 8.5}, "size must be a whole number, not 8.5"),
        ({"size": True}, "size must be a whole number, not true"),
        ({"channels": 2}, "channels must be 1 or 3, not 2"),
        ({"fit": "stretch"}, "fit must be crop or pad"),
        ({"background": "nocolour"}, r"`dataset\.background` must be a colour"),
        ({"white": -1}, "must rise"),
        ({"white": float("nan")}, "white must be a number or null, not NaN"),
        ({"handwriting": True}, "one channel"),
        ({"invert": "auto"}, "belongs to handwriting"),
        ({"more": 1}, "field 'more' is unknown"),
    ],
)
def test_a_wrong_description_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FanfoldError, match=message):
        Preprocessing.from_dict({**COLOUR.to_dict(), **change})
