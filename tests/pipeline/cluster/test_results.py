"""What a run does when the cluster leaves it."""

import asyncio
import gc
import threading
import time
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import pytest
from dask.delayed import delayed
from distributed import LocalCluster

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster import cluster as engine
from fanfold.pipeline.cluster import results as waiting
from fanfold.pipeline.cluster.cluster import open_cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.results import results
from fanfold.pipeline.executors.gang import GangExecutor
from fanfold.pipeline.executors.graph import GraphExecutor
from tests.waiting import wait_for


def fail(error):
    raise error


@pytest.fixture
def one_here():
    """A cluster of one worker, in this process, and a driver's view of it."""
    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**settings) as other, open_cluster(ClusterConfig(kind=other.scheduler_address)) as cluster:
        yield other, cluster


def test_a_cluster_without_workers_is_given_up_in_the_end(recipe, one_here, monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "WITHOUT_WORKERS", 1.0)
    other, cluster = one_here
    other.scale(0)
    wait_for(lambda: not cluster.workers)
    with pytest.raises(RunError, match=r"There has been no worker for 1 s: start workers, and go on with `resume`"):
        GraphExecutor(cluster, recipe, "01234567").window(worker.initialize(recipe), 2)


@pytest.mark.parametrize("executor", [GraphExecutor, partial(GangExecutor, tell=lambda _: None)], ids=["graph", "gang"])
def test_workers_that_stay_paused_are_given_up_in_the_end(recipe, one_here, monkeypatch, executor):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "WITHOUT_WORKERS", 1.0)
    _, cluster = one_here

    def fill_up(dask_worker):
        dask_worker.memory_manager.memory_pause_fraction = 1e-9

    cluster.client.run(fill_up)
    wait_for(lambda: set(cluster.states.values()) == {"paused"})
    with pytest.raises(RunError, match=r"All workers have been paused for 1 s, .*--memory-limit"):
        executor(cluster, recipe, "01234567").window(worker.initialize(recipe), 2)


def test_a_scheduler_that_goes_is_said(one_here, slow_recipe):
    other, cluster = one_here
    closing = threading.Timer(1, other.close)
    closing.start()
    with pytest.raises(RunError, match=r"The scheduler is gone .*`resume`"):
        GraphExecutor(cluster, slow_recipe, "01234568").window(worker.initialize(slow_recipe), 2000)
    closing.join()


@pytest.mark.parametrize("error", [TimeoutError("mine"), OSError("mine"), FanfoldError("mine"), RunError("mine")])
def test_a_tasks_own_error_is_not_taken_for_the_clusters(pair, error):
    with pytest.raises(type(error), match=r"^mine$") as caught:
        results(pair, [delayed(fail)(error)])
    assert type(caught.value) is type(error)


def test_a_task_that_never_ends_is_given_up_in_the_end(pair, monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "STUCK", 0.5)
    with pytest.raises(RunError, match=r"Nothing has come of the workers' tasks for .* h, though there are workers"):
        results(pair, [delayed(time.sleep)(3)])


def test_results_that_do_not_come_are_given_up_in_the_end(pair, monkeypatch):
    async def gather(_):
        await asyncio.sleep(5)

    monkeypatch.setattr(waiting, "FETCH", 0.2)
    monkeypatch.setattr(pair.client, "_gather", gather)
    with pytest.raises(RunError, match=r"Workers haven't sent their results within 0 s"):
        results(pair, [delayed(abs)(-1)])


def test_a_scheduler_that_does_not_answer_is_given_up_in_the_end(pair, monkeypatch):
    async def identity():
        await asyncio.sleep(5)

    monkeypatch.setattr(engine, "ANSWER", 0.2)
    monkeypatch.setattr(pair.client.scheduler, "identity", identity)
    with pytest.raises(RunError, match=r"The scheduler hasn't answered for 0 s"):
        pair.states  # noqa: B018


def test_a_result_that_is_given_up_while_it_is_fetched_leaves_no_traceback(pair, caplog):
    future = pair.client.submit(time.sleep, 1, pure=False)
    with suppress(TimeoutError):  # pytest would keep what is to be dropped
        pair.client.sync(pair.client._gather, [future], callback_timeout=0.1)
    assert not future.done()
    future.cancel()
    wait_for(lambda: future.status == "cancelled")
    pair.client.sync(asyncio.sleep, 0.1)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_a_worker_that_is_lost_by_graph_is_told(recipe):
    seen, told = [["tcp://a", "tcp://b"], ["tcp://a"], ["tcp://a"], ["tcp://c", "tcp://d"], []], []
    cluster = SimpleNamespace(client=type("Client", (), {})(), present=None)
    executor = GraphExecutor(cluster, recipe, "01234567", told.append)
    for cluster.present in seen:
        executor._present()
    assert [event.text for event in told] == [
        "tcp://b is gone: what it computed is computed again",
        "tcp://a is gone: what it computed is computed again",
        "tcp://c and tcp://d are gone: what they computed is computed again",
    ]
