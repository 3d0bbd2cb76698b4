"""A test's predictions by class: precision, recall, F1, confusions, and each prediction as a row."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanfold.data.source import ClassName
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions

MOST_CONFUSIONS = 1000
COLUMNS = ("task", "class", "picture", "predicted", "confidence")


def class_keys(names: Sequence[ClassName], episodes: Episodes, predictions: Predictions) -> dict[str, Any]:
    """The keys of a test's JSON file that are by class.

    `accuracy` is the share of a class's queries that were found to be of it (its recall), `precision` the share of
    those said to be of it that are, `f1` the harmonic mean of both (van Rijsbergen 1979); `macro_f1` is the mean over
    the classes. `confusions` are counts of queries of a class that were said to be of another, the most frequent first.
    """
    true, said = _classes(episodes, predictions)
    pairs, counts = np.unique(np.stack([true, said]), axis=1, return_counts=True)
    asked, right, claimed = (np.zeros(len(names), np.int64) for _ in range(3))
    np.add.at(asked, pairs[0], counts)
    np.add.at(claimed, pairs[1], counts)
    hits = pairs[0] == pairs[1]
    right[pairs[0][hits]] = counts[hits]
    classes = [
        {
            "class": label(names[place]),
            "queries": int(asked[place]),
            "accuracy": float(right[place] / asked[place]),
            "precision": float(right[place] / claimed[place]) if claimed[place] else 0.0,
            "f1": float(2 * right[place] / (asked[place] + claimed[place])),
        }
        for place in np.flatnonzero(asked).tolist()
    ]
    missed = np.flatnonzero(~hits)
    order = missed[np.argsort(-counts[missed], kind="stable")]
    return {
        "macro_f1": float(np.mean([one["f1"] for one in classes])),
        "classes": classes,
        "confusions": [
            {
                "class": label(names[pairs[0][place]]),
                "predicted": label(names[pairs[1][place]]),
                "queries": int(counts[place]),
            }
            for place in order[:MOST_CONFUSIONS].tolist()
        ],
        "confusions_left_out": max(len(order) - MOST_CONFUSIONS, 0),
    }


def as_csv(names: Sequence[ClassName], episodes: Episodes, predictions: Predictions) -> str:
    """Every prediction as a line of CSV: the task's number, the query's class and number there, and what was said."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(names, episodes, predictions))
    return text.getvalue()


def label(name: ClassName) -> str:
    """A class's name, with its group before it."""
    return "/".join(filter(None, (name.group, name.name)))


def _rows(names: Sequence[ClassName], episodes: Episodes, predictions: Predictions) -> Iterator[Mapping[str, Any]]:
    labels = [label(name) for name in names]
    true, said = _classes(episodes, predictions)
    queries = predictions.labels.shape[2]
    pictures = episodes.pictures[:, :, -queries:].reshape(-1)
    confidences = predictions.confidences.reshape(-1)
    per_task = predictions.labels[0].size
    for place in range(len(true)):
        values = (labels[true[place]], int(pictures[place]), labels[said[place]], f"{confidences[place]:.6f}")
        yield dict(zip(COLUMNS, (place // per_task, *values), strict=True))


def _classes(episodes: Episodes, predictions: Predictions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each query's class and the predicted one, int64 `[tasks · ways · queries]` both."""
    tasks = len(predictions)
    true = np.broadcast_to(episodes.classes[:, :, None], predictions.labels.shape).reshape(-1)
    said = np.take_along_axis(episodes.classes, predictions.labels.reshape(tasks, -1).astype(np.int64), 1)
    return true, said.reshape(-1)
