"""Workers that others started are checked, and the one that lacks something is named."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy
import pytest
from distributed import Client, LocalCluster, Worker, WorkerPlugin

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster import joining
from fanfold.pipeline.cluster.cluster import join
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.joining import ask_workers, hand_over, installed
from fanfold.tasks import given
from tests.waiting import wait_for

PACKAGES = Path(numpy.__file__).parents[1]


@pytest.fixture(scope="module")
def client():
    """A client of a scheduler without workers."""
    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


@pytest.fixture
def other_packages(tmp_path):
    """The installed packages without Fanfold."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for path in PACKAGES.iterdir():
        if "fanfold" not in path.name:
            (folder / path.name).symlink_to(path)
    return folder


@contextmanager
def other_worker(client, packages):
    """A worker that has these packages alone; its address."""
    start = f"import sys; sys.path.append({str(packages)!r}); from distributed.cli.dask_worker import main; main()"
    flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    # Without `site` no editable install is found.
    command = [sys.executable, "-S", "-c", start, client.scheduler.address, *flags]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, cwd=packages.parent, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: client.nthreads(), 30)
            (address,) = client.nthreads()
            yield address
        finally:
            process.kill()
    wait_for(lambda: not client.nthreads(), 30)


def test_a_worker_without_fanfold_is_named(client, other_packages):
    with (
        other_worker(client, other_packages) as address,
        pytest.raises(FanfoldError, match=f"^worker {address} has no Fanfold: install {installed()} there.$"),
        join(client, ClusterConfig()),
    ):
        pass


def test_a_worker_of_another_version_is_named(pair, monkeypatch):
    there = installed()
    monkeypatch.setattr(joining, "installed", lambda: "0.0.1")
    with pytest.raises(
        FanfoldError, match=rf"^the scheduler at tcp.* runs Fanfold {there}, this is 0.0.1: install the same"
    ):
        joining.check_versions(pair.client)


def test_a_worker_that_lacks_a_module_is_named(pair):
    with pytest.raises(
        FanfoldError, match=r"^worker tcp://[\d.:]+ can't import what it needs \(No module named 'mine'\)"
    ):
        ask_workers(pair.client, _import_mine)


def test_a_worker_that_lacks_a_file_is_not_taken_for_gone(pair, monkeypatch):
    monkeypatch.setattr(joining, "ATTEMPTS", 1)
    with pytest.raises(FanfoldError, match=r"^worker tcp://[\d.:]+ can't compute this run \(.*No such file.*nowhere"):
        ask_workers(pair.client, partial(open, "/nowhere"))


def _import_mine() -> None:
    import mine  # noqa: F401  # there is no such module


def test_a_store_that_differs_on_a_worker_is_said_with_the_worker(pair, recipe):
    with pytest.raises(FanfoldError, match=r"^worker tcp://[\d.:]+: The store .* holds other images"):
        ask_workers(pair.client, partial(worker.check_context, replace(recipe, fingerprint="x")))
    ask_workers(pair.client, partial(worker.check_context, recipe))


def test_workers_that_die_are_left_out_or_named_and_the_next_ones_get_what_was_handed_over(trio, monkeypatch):
    digest = given.give("model", lambda: 7)
    hand_over(trio.client, [digest])
    first, second, third = before = sorted(trio.client.nthreads())
    answers = ask_workers(trio.client, partial(_die_on, first))
    assert first not in answers
    assert {second, third} <= set(answers)
    monkeypatch.setattr(joining, "ATTEMPTS", 1)  # as if it were the last of several
    with pytest.raises(FanfoldError, match=f"^worker {second} is gone"):
        ask_workers(trio.client, partial(_die_on, second))
    wait_for(lambda: len(set(trio.client.nthreads()) - set(before)) == 2)
    assert list(ask_workers(trio.client, lambda: given.fresh(digest)()).values()) == [7, 7, 7]


def _die_on(address: str, dask_worker: Worker) -> None:
    if dask_worker.address == address:
        os._exit(1)


def test_a_worker_that_does_not_answer_is_named(pair, monkeypatch):
    monkeypatch.setattr(joining, "ANSWER", 0.5)
    monkeypatch.setattr(joining, "SHORT", 1.0)
    silent = sorted(pair.client.nthreads())[1]

    def asleep(dask_worker):
        if dask_worker.address == silent:
            time.sleep(4)  # in the worker's own loop, which answers nothing else meanwhile

    class Asleep(WorkerPlugin):
        def setup(self, worker):
            asleep(worker)

    with pytest.raises(FanfoldError, match=rf"^worker {re.escape(silent)} hasn't answered for 0 s: it is stopped"):
        ask_workers(pair.client, asleep)
    wait_for(lambda: len(pair.client.run(lambda: 0)) == 2)
    with pytest.raises(FanfoldError, match=rf"^worker {re.escape(silent)} hasn't answered for 0 s: it is stopped"):
        joining.register(pair.client, Asleep(), "asleep")
    pair.client.unregister_worker_plugin("asleep")
