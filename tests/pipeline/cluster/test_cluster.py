import logging
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from contextlib import closing
from importlib.util import find_spec

import dask
import psutil
import pytest
import torch
from dask.utils import key_split
from distributed import Client, LocalCluster

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import open_cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.gpus import Gpus
from fanfold.pipeline.cluster.local import gpu_workers
from fanfold.pipeline.cluster.preload import HISTORY, MODULE, WORKER_ENVIRONMENT, keeps_memory
from fanfold.pipeline.executors.graph import GraphExecutor
from tests.waiting import wait_for


def test_the_dashboard_answers_while_training_runs_and_its_task_stream_shows_the_names(pair, slow_recipe):
    pair.client.get_task_stream()  # starts to collect what the dashboard's stream shows
    began = time.time()
    state = worker.initialize(slow_recipe)
    training = threading.Thread(target=GraphExecutor(pair, slow_recipe).window, args=(state, 20))
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


@pytest.fixture
def bare_environment(monkeypatch):
    """No settings of an allocator: Dask leaves those of workers that it started in its own environment."""
    for name in WORKER_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def test_workers_keep_the_memory_they_freed(pair):
    def environment(names):
        import os

        return {name: os.environ.get(name) for name in names}

    for found in pair.client.run(environment, list(WORKER_ENVIRONMENT)).values():
        assert found == WORKER_ENVIRONMENT


def test_a_preload_makes_a_worker_keep_memory_and_imports_no_pytorch(bare_environment):
    def faults_of_blocks():
        """Page faults of memory that is freed and taken again, whether PyTorch is there, and CUDA's order."""
        import resource
        import sys

        def faults():
            bytearray(1 << 25)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

        before = faults()
        return max(faults() for _ in range(10)) - before, "torch" in sys.modules, os.environ["CUDA_DEVICE_ORDER"]

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", preload=MODULE) as preloaded,
        Client(preloaded) as client,
    ):
        (kept,) = client.run(keeps_memory).values()
        faults, torch_there, order = client.submit(faults_of_blocks).result()
        histories = client.run(lambda dask_worker: [dask_worker.profile_history, dask_worker.profile_keys_history])
    assert (kept, torch_there, order) == (True, False, "PCI_BUS_ID")
    assert {history.maxlen for found in histories.values() for history in found} == {HISTORY}
    assert faults < 1000  # without it, each of the ten blocks of 32 MiB faults 8,192 pages


def test_workers_on_the_cpu_watch_no_gpu(pair):
    """Dask would fail where CUDA_VISIBLE_DEVICES names none."""
    assert set(pair.client.run(lambda: dask.config.get("distributed.diagnostics.nvml")).values()) == {False}


def test_a_running_scheduler_is_joined_and_left_running(bare_environment, caplog):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as other:
        batched = logging.getLogger("distributed.batched")
        level = batched.level
        with open_cluster(ClusterConfig(kind=other.scheduler_address, workers=1)) as cluster:
            assert cluster.workers == 1
            assert cluster.device == "cpu"
            assert "1 of 1 workers give memory back at once" in cluster.note
            # It tells of a reset link with a traceback, where the run says so in a line.
            assert not batched.isEnabledFor(logging.ERROR)
        assert batched.level == level
        assert other.scheduler.workers
        with (
            pytest.raises(FanfoldError, match=r"has 1 of 2 workers after 1 s: start them with"),
            open_cluster(ClusterConfig(kind=other.scheduler_address, workers=2, timeout=1)),
        ):
            pass
        assert f"waiting for workers: 1 of 2 are at {other.scheduler_address}" in caplog.messages


def test_a_scheduler_that_does_not_answer_is_said_within_the_bound():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with (
            pytest.raises(FanfoldError, match=rf"No scheduler answered at {address} within \d s"),  # what it took
            open_cluster(ClusterConfig(kind=address, timeout=2)),
        ):
            pass
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("setup", "what"), [("time.sleep(1000)", "has not started within 1.5 s"), ("os._exit(3)", "ended while it started")]
)
def test_a_worker_of_this_machine_that_does_not_start_is_said_and_leaves_nothing(tmp_path, setup, what):
    preload = tmp_path / "preload.py"
    preload.write_text(f"import os, time\n\ndef dask_setup(_):\n    {setup}\n")
    before, began = _workers(), time.monotonic()
    with (
        dask.config.set({"distributed.worker.preload": [str(preload)]}),
        pytest.raises(FanfoldError, match=rf"^Worker 0 of this machine {what}: .* raise `cluster.timeout`"),
    ):
        opened(kind="cpu", timeout=1.5 if "sleep" in setup else 60)
    assert time.monotonic() - began < 30
    assert _workers() <= before


def test_a_worker_of_this_machine_is_not_given_up_while_its_next_process_starts():
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0.1s"}),  # starting takes longer
        open_cluster(ClusterConfig(kind="cpu", workers=1, dashboard=":0")) as cluster,
    ):
        ((first, number),) = cluster.client.run(os.getpid).items()
        os.kill(number, signal.SIGKILL)
        wait_for(lambda: set(cluster.present) - {first}, 90)
        assert len(cluster.client.cluster.workers) == 1  # a nanny that was given up is no longer among them
        assert cluster.workers == 1


def _workers():
    """The children of this process but multiprocessing's own helper."""
    return {one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())}


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "gpu"}, "No cluster 'gpu'"),
        ({"workers": 0}, "`cluster.workers` must be at least 1"),
        ({"timeout": 0}, "`cluster.timeout` must be above 0"),
        ({"per_gpu": 0}, "`cluster.per_gpu` must be at least 1"),
        ({"per_gpu": 2, "kind": "cpu"}, "`cluster.per_gpu` is for GPUs of this machine"),
        ({"per_gpu": 2, "kind": "tcp://there:1"}, "`cluster.per_gpu` is for GPUs of this machine"),
        ({"protocol": "infiniband"}, "No protocol 'infiniband'"),
        ({"protocol": "ucx", "kind": "tcp://there:1"}, "leave `cluster.protocol` out"),
    ],
)
def test_settings_without_sense_are_refused(wrong, message):
    with pytest.raises(FanfoldError, match=message):
        ClusterConfig(**wrong)


@pytest.mark.skipif(find_spec("distributed_ucxx") is not None, reason="UCX is there")
@pytest.mark.parametrize("asked", [{"kind": "cpu", "protocol": "ucx"}, {"kind": "ucx://127.0.0.1:8786"}])
def test_ucx_without_its_package_is_said_in_a_line(asked):
    with pytest.raises(
        FanfoldError, match=r"^UCX needs a package that is not installed, .*: install it, or use tcp\.$"
    ):
        opened(**asked)


@pytest.fixture
def without_gpus(monkeypatch):
    """What a machine without a GPU is like, wherever this runs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def opened(**settings):
    """What a cluster said when it was open, and where it computed."""
    with open_cluster(ClusterConfig(**{"workers": 1, "dashboard": ":0"} | settings)) as cluster:
        return cluster.note, cluster.device, cluster.hardware


def test_auto_computes_on_the_cpu_where_there_is_no_gpu_and_says_so(without_gpus):
    note, *where = opened(kind="auto")
    assert re.fullmatch(r"no GPU found( \(CUDA_VISIBLE_DEVICES='' shows none of \d+\))?: computing on the CPU", note)
    assert where == ["cpu", "cpu"]


def test_cuda_without_a_gpu_is_an_error_in_a_line(without_gpus):
    with pytest.raises(FanfoldError, match=r"^No GPU found.*: use `cluster.kind=cpu`\.$"):
        opened(kind="cuda")


@pytest.fixture
def promised_gpus(monkeypatch):
    """A machine whose driver tells of two GPUs that PyTorch then can't use; dask-cuda asks them nothing itself."""
    if torch.cuda.is_available():
        pytest.skip("has a GPU, that does what it promises")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC", "1")
    monkeypatch.setattr("fanfold.pipeline.cluster.cluster.find_gpus", lambda: Gpus((0, 1)))


def test_workers_take_the_gpus_in_turn(promised_gpus):
    with closing(gpu_workers((0, 1), 3, "tcp", ":0", 60)) as started, Client(started) as client:
        names = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MALLOC_ARENA_MAX"]
        found = client.run(lambda: [os.environ[name] for name in names]).values()
        assert sorted(found) == [[seen, "PCI_BUS_ID", "1"] for seen in ("0,1", "0,1", "1,0")]
        assert set(client.nthreads().values()) == {1}
        assert set(client.run(lambda dask_worker: type(dask_worker.data)).values()) == {dict}  # nothing is spilled


def test_auto_turns_to_the_cpu_where_workers_can_not_use_the_gpu(promised_gpus):
    note, device, _ = opened(kind="auto")
    assert note == "the driver lists a GPU, but workers find none: computing on the CPU"
    assert device == "cpu"


def test_auto_turns_to_the_cpu_where_dask_cuda_fails_and_cuda_is_an_error(monkeypatch, promised_gpus):
    monkeypatch.delenv("DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC")
    monkeypatch.setattr("fanfold.pipeline.cluster.cluster.find_gpus", lambda: Gpus((97,)))
    note, device, _ = opened(kind="auto")
    assert re.fullmatch(r"dask-cuda can't start workers on the GPU \(.+\): computing on the CPU", note)
    assert device == "cpu"
    with pytest.raises(
        FanfoldError, match=r"^Dask-cuda can't start workers on the GPU \(.+\): use `cluster.kind=cpu`\.$"
    ):
        opened(kind="cuda")


def test_more_workers_than_may_share_the_gpus_are_refused(promised_gpus):
    with pytest.raises(
        FanfoldError, match=r"`cluster.workers=5`, but the GPUs have places for 4: raise `cluster.per_gpu` \(2\)"
    ):
        opened(kind="cuda", workers=5, per_gpu=2)
