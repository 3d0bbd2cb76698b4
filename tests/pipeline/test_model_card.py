"""Model cards of exported networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fanfold.data.pictures import HANDWRITING, Preprocessing, read_picture
from fanfold.pipeline.model_card import opening

PHOTO = Preprocessing(size=24)


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A large JPEG that is no square, turned by its EXIF orientation."""
    monkeypatch.chdir(tmp_path)
    waves = np.add.outer(np.arange(150) ** 2, 7 * np.arange(217)) % 256
    image = Image.fromarray(np.stack([waves, waves[::-1], 255 - waves], -1).astype(np.uint8))
    image.getexif()[0x112] = 6
    image.save("picture.jpg", exif=image.getexif())
    return "picture.jpg"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_cards_lines_open_a_picture_as_fanfold_does(picture, fit, channels):
    assert _differences(picture, replace(PHOTO, fit=fit, channels=channels, background="teal")).max() == 0


@pytest.mark.parametrize("invert", [True, False, "auto"])
def test_a_cards_lines_open_handwriting_as_fanfold_does(picture, invert):
    differences = _differences(picture, replace(HANDWRITING, invert=invert))
    assert differences.max() <= 1  # halves, which Fanfold finds by integers
    assert (differences > 0).mean() < 0.01


def _differences(picture, preprocessing):
    names = {"np": np, "torch": torch, "Image": Image, "ImageOps": ImageOps}
    exec("\n".join(opening(preprocessing)), names)
    images, expected = names["images"], read_picture(picture, preprocessing)
    assert (images.dtype, images.shape) == (torch.float32, (1, *expected.shape))
    return np.abs(np.round(images[0].numpy() * 255) - expected)
