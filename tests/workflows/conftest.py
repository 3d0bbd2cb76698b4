"""A small data set of one's own, as files, and workflows run on it: as a person runs them, or in this process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.workflows.cli import entry
from fanfold.workflows.cli.cluster import open_cluster
from tests.environment import outcome, with_root
from tests.waiting import wait_for

SMALL = [
    *("--dataset.name", "folder", "--dataset.split", "alphabets", "--dataset.size", "16"),
    *("--task.ways", "3", "--algorithm.inner_lr", "0.1", "--model.name", "conv4-stride", "--model.width", "8"),
    *("--meta.batch", "6", "--meta.chunk", "2", "--meta.window", "4", "--meta.checkpoint", "4"),
    *("--evaluation.every", "8", "--evaluation.validation_tasks", "20", "--evaluation.tasks", "40"),
    *("--evaluation.other_tasks", "40"),
    *("--cluster.kind", "cpu", "--cluster.workers", "2", "--cluster.dashboard", ":0"),
]
MAINS = {"benchmark": "benchmark.__main__"}  # of commands that are packages
QUIET = ["--report", "false"]  # which would take seconds of each run


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
    return with_root(kept)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two workers, for all that leaves them whole and needs none of its own, which take seconds to start."""
    with open_cluster(ClusterConfig(kind="cpu", workers=2, dashboard=":0")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def joined(cluster: Cluster) -> list[str]:
    """The flags by which a workflow takes the workers that are there."""
    return ["--cluster.kind", cluster.client.scheduler.address, "--cluster.workers", "2"]


@pytest.fixture
def workflow(tmp_path: Path, environment: dict[str, str]) -> Callable[..., CompletedProcess[str]]:
    """Runs a workflow in an empty folder, as a person does: what its workers say is told, too."""

    def run(name: str, *arguments: str, timeout: float = 120) -> CompletedProcess[str]:
        return outcome([sys.executable, "-m", f"workflows.{name}", *arguments], tmp_path, environment, timeout)

    return run


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a workflow in the same folder, in a group of its own, all of which a terminal's Ctrl-C would reach.

    What is still there of the group when the test is over is killed.
    """
    with ExitStack() as stack:

        def run(name: str, *arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", f"workflows.{name}", *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            stack.enter_context(process)
            stack.callback(_kill_group, process.pid)
            return process

        yield run


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def wait_while_running(process: subprocess.Popen[str], what: Callable[[], object]) -> None:
    """Wait until `what` says something true; fail when the process ends before."""
    wait_for(lambda: process.poll() is not None or what(), 90, 0.005)
    assert process.poll() is None


@pytest.fixture
def workflow_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., CompletedProcess[str]]]:
    """Runs a workflow in the same folder in this process, from its arguments to its exit status.

    For what isn't about the process: a new one takes seconds to import what it needs.
    """

    def run(name: str, *arguments: str) -> CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [f"workflows.{name}", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry.run(import_module(f"fanfold.workflows.{MAINS.get(name, name)}").main)
        return CompletedProcess(sys.argv, int(ended.value.code or 0), *capfd.readouterr())

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIGLOT_SOURCE", raising=False)
    interrupted = signal.getsignal(signal.SIGINT)
    yield run
    signal.signal(signal.SIGINT, interrupted)
