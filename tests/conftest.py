"""The real Omniglot, where it is, and what it is like without a network."""

import os
import time
import urllib.request
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


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection of urllib's is refused."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it reads the environment once, when first used
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
