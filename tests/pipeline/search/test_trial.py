"""A trial is a training like any other, segment by segment."""

import os
from dataclasses import replace
from functools import partial

import pytest

from fanfold.data.errors import RunError
from fanfold.pipeline.checkpoint import load_checkpoint, save_checkpoint
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.events import Validated, WindowEnded
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.trial import compute_segment, run_segment
from fanfold.pipeline.training import Job, judge_by_validation, train
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.protonet import ProtoNet
from tests.waiting import wait_for

# Of 20 iterations, the last segment is a shorter one.
EVALUATION = EvaluationConfig(every=8, validation_tasks=20, tasks=20)


def segment(job, now):
    executor = LocalExecutor(job.recipe)
    return compute_segment(job, now, executor, partial(judge_by_validation, job, executor))


@pytest.mark.parametrize("algorithm", [Maml(inner_lr=0.1, inner_steps=1), ProtoNet()], ids=lambda found: found.name)
def test_segments_give_bit_for_bit_what_training_over_a_cluster_gives(pair, recipe, tmp_path, algorithm):
    recipe = replace(recipe, algorithm=algorithm, meta=replace(recipe.meta, schedule="cosine", average=0.9))
    directory = RunDirectory(tmp_path / "run")
    directory.create("")
    events = []
    expected = train(pair, recipe, EVALUATION, directory, [events.append])

    job, now, told = Job(recipe, EVALUATION), None, []
    while now is None or not job.ended(now):
        found = segment(job, now)
        save_checkpoint(tmp_path / "trial.safetensors", found.checkpoint)
        now = load_checkpoint(tmp_path / "trial.safetensors")  # as for another driver, or another worker
        told += found.events
    assert now.state.iteration == 20
    for name in ("parameters", "mean", "square", "average"):
        assert getattr(now.state, name).tobytes() == getattr(expected.state, name).tobytes()
    assert now.best.tobytes() == expected.best.tobytes()
    for name in ("best_iteration", "best_accuracy", "validated", "fingerprint"):
        assert getattr(now, name) == getattr(expected, name)
    assert [event for event in told if isinstance(event, Validated)] == [
        event for event in events if isinstance(event, Validated)
    ]
    records, expected_records = (
        [record for event in of if isinstance(event, WindowEnded) for record in event.records] for of in (told, events)
    )
    assert records == expected_records


def test_a_segment_ends_at_the_next_validation(recipe):
    job = Job(recipe, EVALUATION)
    first = segment(job, None).checkpoint
    assert (first.state.iteration, first.validated, job.ended(first)) == (8, 8, False)
    assert first.seconds > 0
    second = segment(job, first).checkpoint
    assert second.state.iteration == 16
    assert second.seconds > first.seconds


def test_a_trial_that_diverges_says_so(recipe):
    diverging = replace(recipe, algorithm=Maml(inner_lr=1e30, inner_steps=4))
    with pytest.raises(RunError, match="not finite in iteration 1"):
        segment(Job(diverging, EVALUATION), None)


def test_a_worker_leaves_a_segment_that_nobody_waits_for_any_more(pair, recipe):
    endless = Job(replace(recipe, meta=replace(recipe.meta, iterations=10**6)), EvaluationConfig(every=10**6))
    worker = pair.addresses[0]
    future = pair.client.submit(partial(run_segment, endless, None), workers=[worker], pure=False)

    def at_work():
        return pair.client.run(lambda dask_worker: len(dask_worker.state.executing), workers=[worker])[worker]

    wait_for(lambda: at_work() == 1)
    future.cancel()
    # A job that goes on keeps its thread, of which a worker has one.
    assert pair.client.submit(os.getpid, workers=[worker], pure=False).result(30) > 0
