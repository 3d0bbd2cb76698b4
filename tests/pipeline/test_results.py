import numpy as np
import pytest
from scipy import stats

from fanfold.pipeline.half_width import tasks_needed
from fanfold.pipeline.results import Accuracy, of_counts, summarize

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


def test_counts_of_right_predictions_give_the_same_interval():
    right = np.random.default_rng(0).binomial(25, 0.8, 5000)
    found, expected = of_counts(np.bincount(right, minlength=26)), summarize(right / 25)
    assert (found.mean, found.ci95) == pytest.approx((expected.mean, expected.ci95), rel=1e-12)
    assert found.tasks == 5000
    assert of_counts(np.array([0, 0, 7])) == Accuracy(1.0, 0.0, 7)


def test_the_wanted_half_width_is_reached_and_covers_as_it_says():
    """By many tests of a hard kind: of one query, whose accuracies are 0 or 1."""
    random, true, wanted, covers, most = np.random.default_rng(1), 0.9, 0.03, 0, 0
    for _ in range(2000):
        right, tasks = random.random(100) < true, 0
        while len(right) > tasks:
            tasks = len(right)
            found = of_counts(np.bincount(right, minlength=2))
            right = np.append(right, random.random(max(tasks_needed(found, wanted) - tasks, 0)) < true)
        assert found.ci95 <= wanted
        covers, most = covers + (abs(found.mean - true) <= wanted), max(most, tasks)
    assert 0.94 < covers / 2000 < 0.965
    assert most < 1100  # by the true deviation 384 are needed
