"""Published accuracies, for comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fanfold.pipeline import yaml_text


@dataclass(frozen=True)
class Published:
    """A published accuracy."""

    percent: float
    source: str  # the paper


def published(dataset: str, algorithm: str, ways: int, shots: int) -> Published | None:
    """The accuracy in an algorithm's paper for a task; None if there is none."""
    plain = dataset.lower().replace("-", "").replace("_", "")  # a folder's name, however it is written
    paper = (_papers().get(dataset) or _papers().get(plain, {})).get(algorithm, {})
    percent = paper.get(f"{ways}way{shots}shot")
    return None if percent is None else Published(percent, paper["source"])


def published_beside(result: Mapping[str, Any]) -> Published | None:
    """The published accuracy for a result's data set, algorithm and task."""
    return published(*(result[key] for key in ("dataset", "algorithm", "ways", "shots")))


@cache
def _papers() -> dict[str, Any]:
    papers: dict[str, Any] = yaml_text.load(Path(__file__).with_suffix(".yaml").read_text())
    return papers
