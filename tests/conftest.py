"""Fixtures that need the real Omniglot."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from data.datasets import Omniglot, prepare


class Timed(NamedTuple):
    path: Path
    seconds: float


@pytest.fixture(scope="session")
def omniglot_source() -> Path:
    """A folder with Omniglot's two archives."""
    source = os.environ.get("OMNIGLOT_SOURCE")
    if not source:
        pytest.skip("needs a local copy of Omniglot, named by OMNIGLOT_SOURCE")
    return Path(source)


@pytest.fixture(scope="session")
def omniglot_preparation(omniglot_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Timed:
    """Omniglot's store, and the seconds it took to prepare."""
    path = tmp_path_factory.mktemp("omniglot") / "omniglot.zarr"
    start = time.perf_counter()
    prepare(Omniglot(source=str(omniglot_source), store=str(path)), progress=False)
    return Timed(path, time.perf_counter() - start)


@pytest.fixture(scope="session")
def omniglot_store(omniglot_preparation: Timed) -> Path:
    """Omniglot's store, prepared once."""
    return omniglot_preparation.path
