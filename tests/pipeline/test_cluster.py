import socket
import threading
import time
import urllib.request

import pytest
from dask.utils import key_split
from distributed import LocalCluster

from data.errors import FanfoldError
from pipeline import work
from pipeline.cluster import WORKER_ENVIRONMENT, ClusterConfig, gpu_count, open_cluster
from pipeline.reduction import run_window


def test_the_dashboard_answers_while_training_runs_and_its_task_stream_shows_the_names(pair, slow_recipe):
    pair.client.get_task_stream()  # starts to collect what the dashboard's stream shows
    began = time.time()
    state = work.initialize(slow_recipe)
    training = threading.Thread(target=run_window, args=(pair, "0fedcba9", slow_recipe, state, 20))
    training.start()
    with urllib.request.urlopen(pair.dashboard, timeout=20) as page:
        assert page.status == 200
        assert b"Dask" in page.read()
    assert training.is_alive()
    training.join(60)
    stream = pair.client.get_task_stream(start=began)
    assert {key_split(task["key"]) for task in stream} >= {"adapt", "fold", "step"}
    chunks = [task["worker"] for task in stream if key_split(task["key"]) == "adapt"]
    assert all(chunks.count(address) > len(chunks) / 3 for address in pair.addresses)  # both were at work


def test_workers_keep_the_memory_they_freed(pair):
    def environment(names):
        import os

        return {name: os.environ.get(name) for name in names}

    for found in pair.client.run(environment, list(WORKER_ENVIRONMENT)).values():
        assert found == WORKER_ENVIRONMENT


def test_a_running_scheduler_is_joined_and_left_running():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as other:
        with open_cluster(ClusterConfig(kind=other.scheduler_address, workers=1)) as cluster:
            assert cluster.workers == 1
            assert cluster.device == "cpu"
        assert other.scheduler.workers
        with (
            pytest.raises(FanfoldError, match=r"has 1 of 2 workers after 1 s: start them with"),
            open_cluster(ClusterConfig(kind=other.scheduler_address, workers=2, timeout=1)),
        ):
            pass


def test_a_scheduler_that_does_not_answer_is_said_within_the_bound():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with (
            pytest.raises(FanfoldError, match=f"No scheduler answered at {address} within 2 s"),
            open_cluster(ClusterConfig(kind=address, timeout=2)),
        ):
            pass
        assert time.monotonic() - began < 10


def test_a_second_cluster_finds_another_dashboard():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open_cluster(ClusterConfig(kind="cpu", workers=1, dashboard=f":{port}")) as cluster:
            assert f":{port}/" not in cluster.dashboard
            with urllib.request.urlopen(cluster.dashboard, timeout=20) as page:
                assert page.status == 200


def test_a_cluster_that_is_slow_to_close_hides_nothing_of_what_was_done(monkeypatch):
    close = LocalCluster.__exit__

    def slow(self, *raised):
        close(self, *raised)
        raise TimeoutError("of the cluster")

    monkeypatch.setattr(LocalCluster, "__exit__", slow)
    with (
        pytest.raises(TimeoutError, match="of the work"),
        open_cluster(ClusterConfig(kind="cpu", workers=1, dashboard=":0")),
    ):
        raise TimeoutError("of the work")


@pytest.mark.parametrize("wrong", [{"kind": "gpu"}, {"workers": 0}, {"timeout": 0}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(FanfoldError):
        ClusterConfig(**wrong)


@pytest.mark.skipif(gpu_count() > 0, reason="has a GPU")
def test_cuda_without_a_gpu_is_said():
    with pytest.raises(FanfoldError, match=r"No GPU found.*--cluster.kind cpu"), open_cluster(ClusterConfig("cuda")):
        pass
