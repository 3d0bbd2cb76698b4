import numpy as np

from fanfold.pipeline.recording.task_sheet import on_paper


def test_values_that_resizing_left_beyond_the_range_are_clipped():
    image = on_paper(np.array([[0, 0.5, 1], [-0.2, 0.25, 1.3]], np.float32))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), [[0, 128, 255], [0, 64, 255]])
