"""What a run writes down as it goes on."""

import numpy as np
import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.events import Validated, WindowEnded
from fanfold.pipeline.optimizer import Record
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.tasks.predictions import Predictions
from tests.lines import lines

ANSWERS = Predictions(np.zeros((2, 2, 1), np.int16), np.ones((2, 2, 1), np.float32), np.zeros(2, np.float32))


def window(first, last):
    return WindowEnded([Record(iteration, 0.5, 0.25) for iteration in range(first, last)], 10.0, 1.5)


def validated(iteration, accuracy=0.5):
    return Validated(iteration, 0.25, accuracy, 0.1, best=False, predictions=ANSWERS)


def test_a_validation_has_a_line_without_its_answers(tmp_path):
    directory = RunDirectory(tmp_path)
    for event in (window(0, 4), validated(4), window(4, 8), validated(8, 0.75)):
        directory.log(event)
    assert [line["iteration"] for line in lines(directory.metrics)] == list(range(1, 9))
    assert lines(directory.validations) == [
        {"iteration": 4, "loss": 0.25, "accuracy": 0.5, "ci95": 0.1, "best": False},
        {"iteration": 8, "loss": 0.25, "accuracy": 0.75, "ci95": 0.1, "best": False},
    ]


def test_what_will_be_computed_again_is_forgotten(tmp_path):
    directory = RunDirectory(tmp_path)
    for event in (window(0, 8), validated(4), validated(8)):
        directory.log(event)
    with directory.validations.open("a") as file:
        file.write('{"iteration": 3, "accu')  # cut short by a crash
    directory.forget_after(8, validated=4)  # the crash came after the validation, and before its checkpoint
    assert len(lines(directory.metrics)) == 8
    assert [line["iteration"] for line in lines(directory.validations)] == [4]
    directory.forget_after(2, validated=0)
    assert len(lines(directory.metrics)) == 2
    assert lines(directory.validations) == []


def test_a_validation_that_can_not_be_written_is_said(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.validations.mkdir()
    with pytest.raises(FanfoldError, match=r"validations.jsonl can't be written .*`resume`"):
        directory.log(validated(4))
