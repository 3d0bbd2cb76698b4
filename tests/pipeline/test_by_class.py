import csv
import io
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from fanfold.data.source import ClassName
from fanfold.pipeline.by_class import class_keys, csv_lines
from fanfold.pipeline.tally import tally
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions

NAMES = [ClassName("Fruit", "apple"), ClassName("", "pear"), ClassName("Fruit", "a,b"), ClassName("Fruit", "unused")]


def made():
    """Two tasks of two classes and two queries: apple and pear, then pear and "a,b"."""
    classes = np.array([[0, 1], [1, 2]])
    drawings = np.array([[[9, 4, 5], [9, 6, 7]], [[9, 0, 1], [9, 2, 3]]])
    episodes = Episodes(classes, np.zeros((2, 2), int), np.zeros((2, 2), bool), drawings)
    labels = np.array([[[0, 1], [1, 1]], [[0, 0], [0, 1]]], np.int16)
    return episodes, Predictions(labels, np.full((2, 2, 2), 0.75, np.float32), np.ones(2, np.float32))


def test_precision_recall_and_f1_follow_from_the_counts():
    found = class_keys(NAMES, tally(*made()))
    apple, pear, other = found["classes"]
    # Of two apples one was found, and all said to be apples were; of four pears all, and two others were said to be.
    assert apple == {"class": "Fruit/apple", "queries": 2, "accuracy": 0.5, "precision": 1, "f1": pytest.approx(2 / 3)}
    assert pear == {"class": "pear", "queries": 4, "accuracy": 1, "precision": pytest.approx(4 / 6), "f1": 0.8}
    assert other["f1"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 2 / 3) / 3)
    assert found["confusions"] == [
        {"class": "Fruit/apple", "predicted": "pear", "queries": 1},
        {"class": "Fruit/a,b", "predicted": "pear", "queries": 1},
    ]
    assert found["confusions_left_out"] == 0


def test_every_prediction_is_a_line_of_csv():
    paths = tuple(f"{name.name}/{number}.png" for name in NAMES for number in range(10))
    store = SimpleNamespace(names=NAMES, first=np.arange(0, 41, 10), paths=paths)
    text = csv_lines(store, *made(), 0) + csv_lines(store, *made(), 2)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0] == {
        **{"task": "0", "class": "Fruit/apple", "picture": "4", "path": "apple/4.png"},
        **{"predicted": "Fruit/apple", "confidence": "0.750000"},
    }
    assert [row["path"] for row in rows[5:8]] == ["pear/1.png", "a,b/2.png", "a,b/3.png"]
    assert [row["picture"] for row in rows] == list("4567012345670123")
    assert [row["predicted"] for row in rows[4:8]] == ["pear", "pear", "pear", "Fruit/a,b"]
    assert Counter(row["task"] for row in rows) == {"0": 4, "1": 4, "2": 4, "3": 4}
