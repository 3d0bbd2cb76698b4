import numpy as np
import pytest

from fanfold.pipeline.calibration import Calibration, Judged, auroc, best_temperature, calibrate, probabilities, score


def test_the_temperature_undoes_a_scale():
    """Labels are drawn from the softmax of logits; four times too large, they need a temperature of four."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 5))
    shares = probabilities(logits, 1.0)
    labels = np.array([random.choice(5, p=row) for row in shares])
    assert best_temperature(4 * logits, labels) == pytest.approx(4, rel=0.05)
    assert best_temperature(logits / 4, labels) == pytest.approx(1 / 4, rel=0.05)


def test_no_confidence_is_certain_where_all_queries_are_right():
    logits = 10 * np.eye(5)[np.arange(100) % 5]
    found = best_temperature(logits, np.arange(100) % 5)
    assert 0.98 < probabilities(logits, found).max() < 0.999


def test_auroc_counts_pairs():
    assert auroc(np.array([1.0, 2.0]), np.array([0.0, 1.5])) == 0.75
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5


def judged(seed, clear):
    random = np.random.default_rng(seed)
    labels = np.arange(12) % 3
    known = random.normal(size=(12, 3)) + clear * np.eye(3)[labels]
    return Judged(known, labels, random.normal(size=(9, 3)))


def test_a_threshold_lies_above_the_wanted_share_of_known_pictures():
    found = calibrate(3, 1, [judged(seed, 4) for seed in range(30)])
    assert found.accuracy > 0.9
    assert found.auroc > 0.7
    scores = score(np.concatenate([judged(seed, 4).known for seed in range(30)]), found.temperature, found.by)
    for rate in (0.05, 0.2):
        assert (scores < found.threshold(rate)).mean() == pytest.approx(rate, abs=0.01)
    assert found.caught(found.threshold(0.2)) > found.caught(found.threshold(0.05)) > 0.05
    assert Calibration.from_dict(found.to_dict()) == found


def test_without_other_classes_nothing_is_said_of_unknown_ones():
    tasks = [Judged(one.known, one.labels, np.zeros((0, 3))) for one in (judged(seed, 2) for seed in range(3))]
    found = calibrate(3, 1, tasks)
    assert found.auroc is None
    assert found.caught(0.5) == 0
