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


NETWORKS = ("conv4", "conv4-stride")
"""The networks of all these figures: four blocks of convolution (Vinyals et al. 2016)."""


def published(dataset: str, algorithm: str, model: str | None, ways: int, shots: int) -> Published | None:
    """The accuracy in an algorithm's paper for a task, by the same network; None if there is none."""
    if model not in NETWORKS:
        return None
    paper = _papers().get(_plain(dataset), {}).get(algorithm, {})
    percent = paper.get(f"{ways}way{shots}shot")
    return None if percent is None else Published(percent, paper["source"])


def published_beside(result: Mapping[str, Any]) -> Published | None:
    """The published accuracy for a result's data set, algorithm, network and task."""
    model = result.get("model")  # results of before lack it
    return published(result["dataset"], result["algorithm"], model, result["ways"], result["shots"])


@cache
def _papers() -> dict[str, Any]:
    papers: dict[str, Any] = yaml_text.load(Path(__file__).with_suffix(".yaml").read_text())
    return {_plain(dataset): paper for dataset, paper in papers.items()}


def _plain(dataset: str) -> str:
    """A data set's name, or that of its folder, however it is written."""
    return dataset.lower().replace("-", "").replace("_", "")
