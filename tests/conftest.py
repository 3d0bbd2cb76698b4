"""The real Omniglot, where it is; a machine without a network; the device of kernels."""

import os
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

from fanfold.data import schema
from fanfold.data.datasets import Omniglot, prepare

LAYOUT = {name: getattr(schema, name) for name in ("CHUNK_BYTES", "CHUNKS_PER_SHARD")}


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
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LAYOUT.items():  # tests of stores write smaller ones
            patch.setattr(schema, name, value)
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


@pytest.fixture
def device() -> str:
    """A CUDA device, or the CPU in Triton's interpreter, in which `test_interpreted` runs these tests."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "cpu"
    import torch  # not above: the process that hands out files to others can do without

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, or Triton's interpreter: see test_interpreted")
    return "cuda"
