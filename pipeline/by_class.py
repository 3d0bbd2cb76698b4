"""A test's predictions by class: precision, recall, F1, confusions, and each prediction as a row."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fanfold.data.source import ClassName
from fanfold.data.store import Store
from fanfold.pipeline.tally import Tally, predicted_classes
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions

MOST_CONFUSIONS = 1000
COLUMNS = ("task", "class", "picture", "path", "predicted", "confidence")


def for_files(names: Sequence[ClassName]) -> list[str]:
    """The classes' names with their groups before them; a group that all classes share is left out."""
    alone = len({name.group for name in names}) == 1
    return ["/".join(filter(None, ("" if alone else name.group, name.name))) for name in names]


def class_keys(names: Sequence[ClassName], found: Tally) -> dict[str, Any]:
    """The keys of a test's JSON file that are by class.

    `accuracy` is the share of a class's queries that were found to be of it (its recall), `precision` the share of
    those said to be of it that are, `f1` the harmonic mean of both (van Rijsbergen 1979); `macro_f1` is the mean over
    the classes. `confusions` are counts of queries of a class that were said to be of another, the most frequent first.
    """
    labels = for_files(names)
    pairs, counts = np.stack([found.true, found.said]), found.queries
    asked, right, claimed = (np.zeros(len(names), np.int64) for _ in range(3))
    np.add.at(asked, pairs[0], counts)
    np.add.at(claimed, pairs[1], counts)
    hits = pairs[0] == pairs[1]
    right[pairs[0][hits]] = counts[hits]
    classes = [
        {
            "class": labels[place],
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
                "class": labels[pairs[0][place]],
                "predicted": labels[pairs[1][place]],
                "queries": int(counts[place]),
            }
            for place in order[:MOST_CONFUSIONS].tolist()
        ],
        "confusions_left_out": max(len(order) - MOST_CONFUSIONS, 0),
    }


def csv_lines(store: Store, episodes: Episodes, predictions: Predictions, first: int) -> str:
    """Every prediction as a line of CSV: the task's number, the query's class, number there and path, what was said.

    `path` is the picture's name in the store's source; `confidence` the probability of the predicted class, before the
    temperature of labelling. The tasks are numbered from `first` on; before task 0 stands the head of the table.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if first == 0:
        writer.writeheader()
    writer.writerows(_rows(store, episodes, predictions, first))
    return text.getvalue()


def _rows(store: Store, episodes: Episodes, predictions: Predictions, first: int) -> Iterator[Mapping[str, Any]]:
    labels = for_files(store.names)
    true, said = predicted_classes(episodes.classes, predictions)
    queries = predictions.labels.shape[2]
    pictures = episodes.pictures[:, :, -queries:].reshape(-1)
    confidences = predictions.confidences.reshape(-1)
    per_task = predictions.labels[0].size
    for place in range(len(true)):
        picture = int(pictures[place])
        query = (labels[true[place]], picture, store.paths[store.first[true[place]] + picture])
        values = (first + place // per_task, *query, labels[said[place]], f"{confidences[place]:.6f}")
        yield dict(zip(COLUMNS, values, strict=True))
