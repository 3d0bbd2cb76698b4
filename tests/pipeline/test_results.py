import numpy as np
import pytest
from scipy import stats

from fanfold.pipeline.results import Accuracy, Tested, summarize
from fanfold.tasks.predictions import Predictions

Tested.__test__ = False
SHARES = np.array([1.0, 0.8, 0.6, 0.8, 0.4, 1.0])


def test_the_mean_has_the_interval_of_the_normal_distribution():
    found = summarize(SHARES)
    low, high = stats.norm.interval(0.95, loc=SHARES.mean(), scale=stats.sem(SHARES))
    assert found.mean == pytest.approx(4.6 / 6)
    assert (found.mean - found.ci95, found.mean + found.ci95) == pytest.approx((low, high), rel=1e-4)  # 1.96 is rounded
    assert found.tasks == 6


def test_the_interval_of_two_tasks_is_that_of_their_sample_deviation():
    # Deviation of 0.5 and 1: 0.25 · √2; over √2 tasks, 1.96 times.
    assert summarize(np.array([0.5, 1.0])) == Accuracy(0.75, pytest.approx(1.96 * 0.25), 2)


def test_tasks_alike_have_no_interval():
    assert summarize(np.full(10, 0.25)) == Accuracy(0.25, 0.0, 10)


def test_an_accuracy_is_shown_in_percent():
    assert str(Accuracy(0.98765, 0.00123, 1000)) == "98.77 ± 0.12 %"


@pytest.mark.parametrize(
    ("normalization", "transductive", "shown"),
    [
        ("batch", True, "50.00 ± 1.00 %, transductive"),
        ("single", False, "50.00 ± 1.00 %, inductive"),
        ("population", False, "50.00 ± 1.00 %, inductive"),
        (None, False, "50.00 ± 1.00 %, inductive"),
    ],
)
def test_only_queries_normalized_together_are_judged_transductively(normalization, transductive, shown):
    predictions = Predictions(np.zeros((1, 2, 1), np.int16), np.ones((1, 2, 1), np.float32), np.zeros(1, np.float32))
    tested = Tested(normalization, Accuracy(0.5, 0.01, 1), predictions)
    assert tested.transductive is transductive
    assert str(tested) == shown
