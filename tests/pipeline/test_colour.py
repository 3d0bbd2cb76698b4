"""Pictures without colour."""

from dataclasses import replace

import numpy as np
import pytest

from fanfold.data.pictures import Preprocessing
from fanfold.pipeline.classifier import read_images
from fanfold.pipeline.colour import are_coloured

GREY = np.tile(np.arange(0, 200, 5, dtype=np.uint8)[:, None, None], (1, 80, 3))
RED = GREY + np.uint8([17, 0, 0])


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("background", ["white", "teal"])
def test_a_picture_is_grey_whatever_border_is_added(fit, background):
    preprocessing = Preprocessing(size=32, fit=fit, background=background)
    images, _ = read_images([GREY, RED, GREY[..., 0]], preprocessing)
    assert are_coloured(images, preprocessing).tolist() == [False, True, False]
    grey = replace(preprocessing, channels=1)
    assert not are_coloured(read_images([RED], grey)[0], grey).any()
