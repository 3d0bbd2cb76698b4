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
    paper = _papers().get(_plain(dataset), {}).get(algorithm, {})
    percent = paper.get(f"{ways}way{shots}shot")
    return None if percent is None else Published(percent, paper["source"])


def published_beside(result: Mapping[str, Any]) -> Published | None:
    """The published accuracy for a result's data set, algorithm and task."""
    return published(*(result[key] for key in ("dataset", "algorithm", "ways", "shots")))


@cache
def _papers() -> dict[str, Any]:
    papers: dict[str, Any] = yaml_text.load(Path(__file__).with_suffix(".yaml").read_text())
    return {_plain(dataset): paper for dataset, paper in papers.items()}


def _plain(dataset: str) -> str:
    """A data set's name, or that of its folder, however it is written."""
    return dataset.lower().replace("-", "").replace("_", "")
