"""Files of learners and classifiers whose SHA-256 is right, and whose content is none that was written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.classifier import Classifier
from fanfold.pipeline.learner_file import read_learner
from fanfold.pipeline.learning import learn
from fanfold.pipeline.tensor_file import pack, read
from tests.pipeline.conftest import PatternSource

SHIPPED = Path(worker.__file__).parents[1] / "workflows/weights/omniglot.safetensors"
FACTS = {
    "learner.size": ([0, 0], [28], "28", [2000, 2000]),
    "learner.channels": (7, None, True),
    "learner.ways": (0, 2.5),
    "learner.steps": (0, 10**9),
    "learner.head": ("median", 1),
    "learner.model.width": ("x", 10**9, 30_000, 9),  # gigabytes, and another network
    "learner.algorithm.name": (None, "mod:X"),
    "preprocessing.size": (27, "28"),
    "labels": (3, "ab", ["a", "a"], [1, 2], [["a"], ["b"]], ["a", "\ud800"], ["a", "b", "c"], ["a"]),
    "calibration.temperature": (0, -1, float("nan"), "x", None),
    "calibration.ways": (0, "5"),
    "calibration.known": ([], [2, 1], ["x"], 3),
    "calibration.accuracy": (1.5,),
    "right": ([1], [3, 2], "ab"),
    "threshold": ("x", float("inf")),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The shipped learner, and a classifier that it learnt, as files; and what reads each."""
    folder = tmp_path_factory.mktemp("kept")
    found = read_learner(SHIPPED)
    two = {name: [one[0] for one in PatternSource().read(place, 0, 2)] for place, name in enumerate("ab")}
    learn(found.learner, found.preprocessing, two, found.suited).save(folder / "classifier")
    return (SHIPPED, read_learner), (folder / "classifier", Classifier.load)


def test_facts_of_another_kind_are_refused_in_a_line(kept, tmp_path):
    for path, reader in kept:
        facts, tensors = read(path)
        for field, values in FACTS.items():
            for value in values:
                changed = json.loads(json.dumps(facts))
                first, *rest = field.split(".")
                if first == "calibration" and "calibrations" in changed:
                    place = changed["calibrations"][0]
                elif first in changed:
                    place = changed[first] if rest else changed
                else:
                    continue
                for name in rest[:-1]:
                    place = place[name]
                place[field.rpartition(".")[2]] = value
                (tmp_path / "one").write_bytes(pack(changed, tensors))
                with pytest.raises(
                    FanfoldError, match=r"is damaged|of this file|none of Fanfold's|must be|can't be built"
                ):
                    reader(tmp_path / "one")
        for name in facts:
            (tmp_path / "one").write_bytes(pack({key: facts[key] for key in facts if key != name}, tensors))
            with pytest.raises(FanfoldError, match=r"is damaged|another version"):
                reader(tmp_path / "one")


def test_tensors_of_another_kind_are_refused_in_a_line(kept, tmp_path):
    changes = (lambda one: one[:-1], lambda one: one.astype(np.float64), lambda one: one.astype(np.int32))
    for path, reader in kept:
        facts, tensors = read(path)
        for name in {"parameters", "support", "numbers"} & set(tensors):
            changed = [change(tensors[name]) for change in changes]
            changed += [tensors[name] - 5, tensors[name] + 10**12] if name == "numbers" else [tensors[name] * np.nan]
            for value in changed:
                (tmp_path / "one").write_bytes(pack(facts, {**tensors, name: value}))
                with pytest.raises(FanfoldError, match="is damaged"):
                    reader(tmp_path / "one")
        (tmp_path / "one").write_bytes(pack(facts, {**tensors, "": np.array([np.nan])}))
        with pytest.raises(FanfoldError, match="the tensor '' is not finite"):
            reader(tmp_path / "one")


def test_logits_that_are_not_finite_are_no_prediction():
    found = read_learner(SHIPPED)
    two = {name: [one[0] for one in PatternSource().read(place, 0, 2)] for place, name in enumerate("ab")}
    wild = replace(found.learner, parameters=found.learner.parameters * 1e30)
    with pytest.raises(FanfoldError, match="logits are not finite"):
        list(learn(wild, found.preprocessing, two).predict(two["a"]))
