"""A learner in a file of its own, with what was measured of it: a run that is shipped without its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import torch

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.pipeline.calibration import Calibration
from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.tensor_file import pack, read, told_of
from fanfold.tasks.learner import Learner

FORMAT = 1
STATISTICS = "statistics."  # the begin of their names


@dataclass(frozen=True)
class KeptLearner:
    """A learner, the preprocessing of its pictures, and its calibrations for several ways and shots."""

    learner: Learner
    preprocessing: Preprocessing
    calibrations: Sequence[Calibration]

    def suited(self, ways: int, shots: int) -> tuple[Learner, Calibration | None]:
        """The learner, and its calibration for the most similar ways and shots."""

        def distance(one: Calibration) -> float:
            return abs(log(one.ways / ways)) + abs(log(one.shots / shots))

        return self.learner, min(self.calibrations, key=distance, default=None)


def write_learner(path: Path, kept: KeptLearner) -> None:
    """Write a learner to a file, whole or not at all.

    Raises:
        FanfoldError: It can't be written.
    """
    facts = {
        "kind": "learner",
        "format": FORMAT,
        "learner": kept.learner.facts(),
        "preprocessing": kept.preprocessing.to_dict(),
        "calibrations": [one.to_dict() for one in kept.calibrations],
    }
    tensors = {**kept.learner.statistics, **kept.learner.kept}
    statistics = {f"{STATISTICS}{name}": value.numpy() for name, value in tensors.items()}
    write_bytes(path, pack(facts, {"parameters": kept.learner.parameters.numpy(), **statistics}))


def read_learner(path: Path) -> KeptLearner:
    """Read a learner from its file.

    Raises:
        FanfoldError: It can't be read, is damaged, or holds no learner.
    """
    facts, tensors = read(path)
    if (facts.get("kind"), facts.get("format")) != ("learner", FORMAT):
        raise FanfoldError(f"{path} holds no learner, or one of another version of Fanfold.")
    with told_of(str(path)):
        parameters = torch.from_numpy(tensors.pop("parameters"))
        found = {name.removeprefix(STATISTICS): torch.from_numpy(value) for name, value in tensors.items()}
        if set(tensors) != {f"{STATISTICS}{name}" for name in found}:
            raise ValueError("a tensor is none that should be there")
        learner = Learner.from_facts(facts["learner"], parameters, found)
        calibrations = [Calibration.from_dict(one) for one in facts["calibrations"]]
        return KeptLearner(learner, suited_to(learner, facts["preprocessing"]), calibrations)


def suited_to(learner: Learner, facts: Any) -> Preprocessing:
    """The preprocessing of a file, which makes such images as its learner takes.

    Raises:
        FanfoldError: A value is missing, unknown, of another type, or out of its range.
        ValueError: It makes others.
    """
    found = Preprocessing.from_dict(facts)
    if (found.size, found.size, found.channels) != (*learner.size, learner.channels):
        raise ValueError("its preprocessing makes other images than its learner takes")
    return found
