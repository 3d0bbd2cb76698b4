from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest

from fanfold.pipeline.results import Accuracy, summarize
from fanfold.pipeline.tally import Tested, tally
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions

Tested.__test__ = False


def drawn(tasks):
    """Tasks of three of forty classes with four queries each, and predictions for them."""
    random = np.random.default_rng(3)
    classes = np.array([random.permutation(40)[:3] for _ in range(tasks)])
    none = np.zeros((tasks, 3), np.int64)
    labels = random.integers(0, 3, (tasks, 3, 4)).astype(np.int16)
    losses = random.random(tasks).astype(np.float32)
    episodes = Episodes(classes, none, none.astype(bool), np.zeros((tasks, 3, 5), np.int64))
    return episodes, Predictions(labels, np.ones((tasks, 3, 4), np.float32), losses)


def part(episodes, first, last):
    return Episodes(*(getattr(episodes, name)[first:last] for name in vars(episodes)))


def test_sums_are_those_of_all_tasks_whatever_the_parts():
    episodes, predictions = drawn(2500)
    whole = tally(episodes, predictions)
    bounds = [0, 1, 700, 2500]
    pieces = [tally(part(episodes, *ends), predictions.part(*ends)) for ends in pairwise(bounds)]
    pieced = reduce(add, pieces)
    for name in ("right", "true", "said", "queries"):
        assert (getattr(pieced, name) == getattr(whole, name)).all()
    assert (pieced.tasks, pieced.wild, pieced.mean_loss) == (2500, 0, pytest.approx(predictions.losses.mean()))
    expected = summarize(predictions.accuracies)
    assert (whole.accuracy.mean, whole.accuracy.ci95) == pytest.approx((expected.mean, expected.ci95))
    counted = np.zeros((40, 40), int)
    for of_task, labels in zip(episodes.classes, predictions.labels, strict=True):
        for way in range(3):
            for label in labels[way]:
                counted[of_task[way], of_task[label]] += 1
    assert (counted[whole.true, whole.said] == whole.queries).all()
    assert whole.queries.sum() == counted.sum() == 2500 * 12


def test_a_loss_that_is_not_finite_is_counted():
    episodes, predictions = drawn(5)
    predictions.losses[2] = np.nan
    found = tally(episodes, predictions)
    assert found.wild == 1
    assert not found.mean_loss < np.inf


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
    episodes, predictions = drawn(2)
    tested = Tested(normalization, Accuracy(0.5, 0.01, 1), tally(episodes, predictions), predictions)
    assert tested.transductive is transductive
    assert str(tested) == shown
