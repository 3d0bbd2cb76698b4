import numpy as np

from fanfold.pipeline.recording.task_sheet import on_paper


def test_ink_is_dark_on_white_whatever_resizing_left_beyond_it():
    image = on_paper(np.array([[0, 0.5, 1], [-0.2, 0.25, 1.3]], np.float32))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), [[255, 128, 0], [255, 191, 0]])
