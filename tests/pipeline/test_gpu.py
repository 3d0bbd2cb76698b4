"""The same path on a CUDA device. Skipped by name where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import work
from pipeline.cluster import ClusterConfig, gpu_count, open_cluster
from pipeline.evaluation import EvaluationConfig
from pipeline.run_directory import RunDirectory
from pipeline.training import train
from tasks.models import Article, Conv4, Conv4Stride
from tests.pipeline.reference import run_alone

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="needs a CUDA device")]


@pytest.mark.parametrize(
    "model", [Conv4(width=8), Conv4Stride(width=8), Article(width=8)], ids=lambda model: model.name
)
def test_a_chunk_on_the_device_is_that_of_the_cpu_in_float64(recipe, model):
    here, there = replace(recipe, model=model), replace(recipe, model=model, device="cuda")
    state = work.initialize(here)
    on_device = work.adapt(there, state, 0, 6)
    with work._at_the_bench(here, 0, 0) as opened:
        tasks = work._tasks(here, opened, work.Stream.TRAIN, 0, 6)
        exact = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
        expected = here.algorithm.meta_gradient(opened.network, torch.tensor(state.parameters).double(), 0, exact)
    error = np.linalg.norm(on_device.gradient - expected.gradient.numpy()) / np.linalg.norm(expected.gradient.numpy())
    assert error < 1e-4
    assert on_device.loss == pytest.approx(float(expected.losses.sum()), rel=1e-5)


def test_the_device_gives_the_same_bits_every_time(recipe):
    there = replace(recipe, device="cuda")
    one, other = (run_alone(there, 5).parameters.tobytes() for _ in range(2))
    assert one == other


def test_training_over_a_cuda_cluster(recipe, tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create("")
    with open_cluster(ClusterConfig(kind="cuda", dashboard=":0")) as cluster:
        assert cluster.device == "cuda"
        there = replace(recipe, device="cuda")
        last = train(cluster, there, EvaluationConfig(every=10, validation_tasks=20, tasks=20), directory)
    assert last.state.parameters.tobytes() == run_alone(there, 20).parameters.tobytes()
