"""The sheet of labelled pictures."""

from pathlib import Path

import pytest
from PIL import ImageFont

from fanfold.pipeline.classifier import Prediction
from fanfold.workflows.reporting.label_sheet import WORDS, _confidence, _cut, _names


@pytest.mark.parametrize(("label", "words"), [("cat", "94.4 %"), ("unknown", "94.4 % cat")])
def test_the_confidence_of_an_unknown_picture_names_its_class(label, words):
    assert _confidence(Prediction(None, label, 0.9444, {"dog": 0.0556, "cat": 0.9444})) == words


def test_a_picture_of_one_colour_has_no_confidence():
    plain = Prediction(None, "unknown", 0.5, {"dog": 0.5, "cat": 0.5}, constant=True)
    assert _confidence(plain) == "one colour all over"


def test_pictures_of_one_name_are_told_apart_by_their_folders():
    found = [Prediction(Path(path), "cat", 1.0, {"cat": 1.0}) for path in ("new/a/1.png", "new/b/1.png", "new/2.png")]
    assert _names(found) == ["a/1.png", "b/1.png", "2.png"]


def test_a_long_name_loses_its_middle_not_the_number_that_tells_it_from_others():
    font = ImageFont.load_default(12)
    shown = _cut("holiday-at-the-seaside-with-the-dog-000123.png", font)
    assert shown.startswith("holiday-")
    assert shown.endswith("000123.png")
    assert WORDS - 12 < font.getlength(shown) <= WORDS
    assert _cut("000123.png", font) == "000123.png"
