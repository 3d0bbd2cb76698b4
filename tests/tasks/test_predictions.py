import numpy as np

from fanfold.tasks.predictions import Predictions, join

LABELS = np.array([[[0, 0], [1, 0]], [[0, 0], [1, 1]], [[1, 1], [0, 0]]], np.int16)
PREDICTIONS = Predictions(LABELS, np.linspace(0.5, 1, LABELS.size, dtype=np.float32).reshape(LABELS.shape), np.ones(3))


def test_a_prediction_is_right_where_it_is_the_querys_class():
    assert PREDICTIONS.right[0].tolist() == [[True, True], [True, False]]
    assert PREDICTIONS.accuracies.tolist() == [0.75, 1, 0]


def test_parts_are_joined_in_their_order():
    found = join([PREDICTIONS.part(0, 1), PREDICTIONS.part(1, 3)])
    assert (len(PREDICTIONS.part(0, 1)), len(found)) == (1, 3)
    for field in ("labels", "confidences", "losses"):
        np.testing.assert_array_equal(getattr(found, field), getattr(PREDICTIONS, field))
