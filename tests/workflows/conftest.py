"""A small data set of one's own, as files, and workflows run as a person runs them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

SMALL = [
    *("--dataset.name", "folder", "--dataset.split", "alphabets", "--dataset.size", "16"),
    *("--task.ways", "3", "--algorithm.inner_lr", "0.1", "--model.name", "conv4-stride", "--model.width", "8"),
    *("--meta.batch", "6", "--meta.chunk", "2", "--meta.window", "4", "--meta.checkpoint", "4"),
    *("--evaluation.every", "8", "--evaluation.validation_tasks", "20", "--evaluation.tasks", "40"),
    *("--cluster.kind", "cpu", "--cluster.workers", "2", "--cluster.dashboard", ":0"),
]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four alphabets of eight classes of six pictures."""
    folder = tmp_path_factory.mktemp("own") / "pictures"
    for number in range(32):
        random = np.random.default_rng(number)
        pattern = np.kron(random.random((4, 4)) > 0.5, np.ones((4, 4))) * 200
        place = folder / f"alphabet{number // 8}" / f"class{number}"
        place.mkdir(parents=True)
        for drawing in range(6):
            pixels = np.clip(pattern + random.normal(0, 20, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{drawing}.png")
    return folder


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What a workflow's process sees: the project, and no copy of Omniglot."""
    kept = {name: value for name, value in os.environ.items() if name != "OMNIGLOT_SOURCE"}
    return kept | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def workflow(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a workflow in an empty folder."""

    def run(name: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"workflows.{name}", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run
