"""The same path on a CUDA device. Skipped by name where there is none."""

import ctypes
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from distributed import LocalCluster
from distributed.diagnostics import nvml
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import parameters_sha256
from fanfold.pipeline.cluster.cluster import open_cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.cluster.gpus import find_gpus, take_inventory
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.evaluation import normalizations, predict
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.config import SearchConfig
from fanfold.pipeline.search.driver import Candidate, Search
from fanfold.pipeline.search.space import Dimension, Space
from fanfold.pipeline.search.study import make_pruner, open_study
from fanfold.pipeline.training import Job, train
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.episodes import Stream
from fanfold.tasks.models import Article, Conv4, Conv4Stride, PluginModel
from tests.environment import ROOT, with_root
from tests.pipeline.reference import alone, assert_same
from tests.tasks.every_algorithm import EVERY, each

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

EVALUATION = EvaluationConfig(every=10, validation_tasks=20, tasks=20)


@pytest.fixture
def directory(tmp_path):
    made = RunDirectory(tmp_path / "run")
    made.create("")
    return made


@pytest.fixture(scope="module")
def shared_card():
    """Two workers on the first GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", str(find_gpus().names[0]))
        with open_cluster(ClusterConfig(kind="cuda", per_gpu=2, dashboard=":0")) as cluster:
            yield cluster


def apart(recipe, device):
    """How far a chunk on a device is from the CPU's in float64: the gradient, and the loss, relatively."""
    state = worker.initialize(recipe)
    on_device = worker.adapt(replace(recipe, device=device), state, 0, 6)
    with worker.in_context(recipe, 0, 0) as opened:
        tasks = worker._tasks(recipe, opened, worker.Stream.TRAIN, 0, 6)
        exact = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
        start, network = torch.tensor(state.parameters).double(), replace(opened.network, stack=None)
        expected = recipe.algorithm.meta_gradient(network, start, 0, exact)
    gradient, loss = expected.gradient.numpy(), float(expected.losses.sum())
    return np.linalg.norm(on_device.gradient - gradient) / np.linalg.norm(gradient), abs(on_device.loss / loss - 1)


@pytest.mark.parametrize(
    "model", [Conv4(width=8), Conv4Stride(width=8), Article(width=8)], ids=lambda model: model.name
)
def test_a_chunk_on_the_device_is_that_of_the_cpu_in_float64(recipe, model):
    gradient, loss = apart(replace(recipe, model=model), "cuda")
    assert gradient < 1e-4
    assert loss < 1e-5


@each(EVERY)
def test_every_algorithm_on_the_device_is_as_on_the_cpu_in_float64(recipe, algorithm):
    """A number near a tie may fall on the other side of ReLU or pooling, and inner steps carry that on."""
    gradient, loss = apart(replace(recipe, algorithm=algorithm), "cuda")
    assert gradient < 5e-2
    assert loss < 1e-3


def test_the_device_gives_the_same_bits_every_time(recipe):
    there = replace(recipe, device="cuda")
    one, other = (alone(there, 5).state.parameters.tobytes() for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    "algorithm",
    [Maml(inner_lr=0.1), MamlPlusPlus(inner_steps=2, multi_step=6, first_order=3), ProtoNet()],
    ids=lambda chosen: chosen.name,
)
def test_a_loop_on_the_device_gives_the_bits_of_chunks(recipe, algorithm):
    """Through every phase often enough that it is captured as a graph, and replayed."""
    there = replace(recipe, device="cuda", algorithm=algorithm)
    window = LocalExecutor(there).window(worker.initialize(there), 9)
    assert_same(window, alone(there, 9))


def test_a_network_that_draws_draws_the_same_in_a_workers_first_chunk(recipe):
    """As on a CPU, see `test_worker`; a GPU has a generator of its own."""
    one_by_one = replace(recipe.meta, together=False)
    there = replace(recipe, device="cuda", meta=one_by_one, model=PluginModel("tests.pipeline.test_worker:Dropping"))
    state = worker.initialize(there)
    worker.adapt(there, state, 0, 3)
    later = worker.adapt(there, state, 3, 6)
    worker._network.cache_clear()
    assert worker.adapt(there, state, 3, 6).gradient.tobytes() == later.gradient.tobytes()


def test_nvml_and_pytorch_agree():
    gpus = find_gpus()
    assert gpus.problem is None
    assert len(gpus.names) == torch.cuda.device_count()


def test_training_over_a_cuda_cluster(recipe, directory):
    with open_cluster(ClusterConfig(kind="cuda", dashboard=":0")) as cluster:
        assert cluster.workers == torch.cuda.device_count()
        assert cluster.device == "cuda"
        assert cluster.gpus == tuple(sorted(map(torch.cuda.get_device_name, range(cluster.workers))))
        last = train(cluster, replace(recipe, device="cuda"), EVALUATION, directory)
    assert last.state.parameters.tobytes() == alone(replace(recipe, device="cuda"), 20).state.parameters.tobytes()


def test_auto_takes_the_gpu_and_says_nothing_of_it():
    with open_cluster(ClusterConfig(kind="auto", workers=1, dashboard=":0")) as cluster:
        assert cluster.device == "cuda"
        assert "GPU" not in (cluster.note or "")
        assert cluster.hardware == f"cuda: {torch.cuda.get_device_name(0)}"


@pytest.mark.parametrize("by", ["index", "uuid"])
def test_cuda_visible_devices_chooses_among_the_gpus(monkeypatch, by):
    uuids = take_inventory().uuids
    last = len(uuids) - 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", {"index": str(last), "uuid": uuids[last]}[by])
    with open_cluster(ClusterConfig(kind="cuda", dashboard=":0")) as cluster:
        assert cluster.workers == 1
        assert set(cluster.client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == {str(last)}
        (uuid,) = cluster.client.run(lambda: str(torch.cuda.get_device_properties(0).uuid)).values()
        assert uuids[last] == f"GPU-{uuid}"


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_left_alone(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(nvml, "NVML_STATE", nvml.NVMLState.UNINITIALIZED)  # as in a process that has had no cluster
    with open_cluster(ClusterConfig(kind="auto", workers=1, dashboard=":0")) as cluster:
        assert cluster.device == "cpu"
        assert f"no GPU found (CUDA_VISIBLE_DEVICES='{hidden}' shows none of" in cluster.note
        assert set(cluster.client.run(torch.cuda.device_count).values()) == {0}
    with pytest.raises(FanfoldError, match="No GPU found"), open_cluster(ClusterConfig(kind="cuda")):
        pass


@pytest.mark.parametrize("reduction", ["graph", "collective"])
def test_two_workers_on_a_card_train_to_the_same_parameters(shared_card, recipe, directory, reduction):
    assert (shared_card.workers, len(shared_card.gpus)) == (2, 1)
    there = replace(recipe, device="cuda")
    last = train(replace(shared_card, reduction=reduction), there, EVALUATION, directory)
    assert parameters_sha256(last.state.parameters) == parameters_sha256(alone(there, 20).state.parameters)


@pytest.mark.parametrize("algorithm", [Maml(inner_lr=0.1, inner_steps=1), ProtoNet()], ids=lambda chosen: chosen.name)
def test_predictions_are_the_same_from_one_worker_and_from_two_on_a_card(shared_card, recipe, algorithm):
    there = replace(recipe, device="cuda", algorithm=algorithm, steps=None)
    parameters = alone(there, 20).state.parameters
    single = replace(shared_card, chosen=lambda workers: workers[:1])
    for normalization in normalizations(there):
        one, two = (
            predict(GraphExecutor(cluster, there), there, parameters, Stream.TEST, 40, normalization).accuracies
            for cluster in (single, shared_card)
        )
        assert one.tobytes() == two.tobytes()
        assert one.mean() > 0.4  # chance is a third


def test_the_trials_of_a_search_share_a_card(shared_card, recipe, tmp_path):
    def make(params):
        meta = replace(recipe.meta, batch=4, iterations=4, lr=params["lr"])
        return Candidate(Job(replace(recipe, device="cuda", meta=meta), replace(EVALUATION, every=2)), "")

    space = Space((Dimension("lr", FloatDistribution(1e-4, 1e-2)),))
    config, events = SearchConfig(trials=3, pruner="none", sampler="random"), []
    with open_study(tmp_path / "study.db", "test", make_pruner(config, 2, 4)) as study:
        Search(shared_card, study, space, config, 5, make, tmp_path / "trials", events.append).run()
        trials = study.get_trials()
    assert {event.number for event in events[:2]} == {0, 1}  # two at once
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    for trial in trials:
        expected = alone(make(trial.params).job.recipe, 4).state
        assert trial.user_attrs["parameters_sha256"] == parameters_sha256(expected.parameters)


@contextmanager
def started(module, address, *arguments, **environment):
    """A process of Dask's, as someone else starts it."""
    seen = with_root() | environment
    process = subprocess.Popen([sys.executable, "-m", module, address, *arguments], env=seen, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def scheduler():
    """The address of a scheduler without workers."""
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def test_the_workers_of_dask_cuda_are_joined(scheduler, recipe, directory):
    config = ClusterConfig(kind=scheduler, workers=torch.cuda.device_count())
    with started("dask_cuda.cli", scheduler), open_cluster(config) as cluster:
        assert cluster.device == "cuda"
        assert len(cluster.gpus) == cluster.workers == config.workers
        assert "GPU" not in (cluster.note or "")
        last = train(cluster, replace(recipe, device="cuda"), EVALUATION, directory)
    assert last.state.parameters.tobytes() == alone(replace(recipe, device="cuda"), 20).state.parameters.tobytes()


def test_a_cluster_of_which_some_have_no_gpu_computes_on_the_cpu_and_says_who(scheduler):
    gpus = torch.cuda.device_count()
    with (
        started("dask_cuda.cli", scheduler),
        started("distributed.cli.dask_worker", scheduler, "--nthreads", "1", CUDA_VISIBLE_DEVICES=""),
        open_cluster(ClusterConfig(kind=scheduler, workers=gpus + 1)) as cluster,
    ):
        assert cluster.device == "cpu"
        assert f"{gpus} of {gpus + 1} workers can use a GPU (tcp://" in cluster.note
        assert "no GPU): computing on the CPU" in cluster.note


def holds_a_context():
    """Whether this process has a CUDA context on the first GPU that it is shown, whatever library made it."""
    driver, device, flags, active = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    assert driver.cuInit(0) == 0
    assert driver.cuDeviceGet(ctypes.byref(device), 0) == 0
    assert driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)) == 0
    return bool(active.value)


DRIVER = """
import pickle, sys
from tests.pipeline.test_gpu import EVALUATION, ClusterConfig, RunDirectory, holds_a_context, open_cluster, train
recipe, directory = pickle.load(sys.stdin.buffer)
with open_cluster(ClusterConfig(kind="cuda", workers=1, dashboard=":0")) as cluster:
    train(cluster, recipe, EVALUATION, RunDirectory(directory))
    print("contexts", holds_a_context(), *cluster.client.run(holds_a_context).values())
"""


def test_whoever_drives_a_run_on_gpus_holds_no_context_there(recipe, directory):
    given = pickle.dumps((replace(recipe, device="cuda"), directory.path))
    command = [sys.executable, "-c", DRIVER]
    ran = subprocess.run(command, input=given, capture_output=True, cwd=ROOT, env=with_root(), timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert "contexts False True" in ran.stdout.decode()


def test_workers_that_compute_on_the_cpu_hold_no_context_on_a_gpu(small_cluster, recipe):
    with small_cluster(1) as cluster:
        GraphExecutor(cluster, recipe, "c0ffee00").window(worker.initialize(recipe), 1)
        assert set(cluster.client.run(holds_a_context).values()) == {False}
