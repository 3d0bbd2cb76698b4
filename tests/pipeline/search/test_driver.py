"""A search goes on, whatever happens to it, and comes to the same."""

import os
import signal
import time
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import parameters_sha256, save_checkpoint
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.tensorboard import TensorBoard
from fanfold.pipeline.search.config import SearchConfig
from fanfold.pipeline.search.driver import Candidate, Search, choose
from fanfold.pipeline.search.events import TrialEnded, TrialReached
from fanfold.pipeline.search.recording import TrialRecords
from fanfold.pipeline.search.space import Dimension, Space
from fanfold.pipeline.search.study import draw, left_running, make_pruner, open_study
from fanfold.pipeline.training import Job
from fanfold.tasks.algorithms.maml import Maml
from tests.lines import lines
from tests.pipeline.reference import alone

EVALUATION = EvaluationConfig(every=2, validation_tasks=20, tasks=20)
SPACE = Space(
    (
        Dimension("inner_lr", FloatDistribution(0.01, 1.0, log=True)),
        Dimension("inner_steps", IntDistribution(1, 2)),
        Dimension("lr", FloatDistribution(1e-4, 1e-1, log=True)),
    )
)
CONDITIONAL = Space(
    (
        Dimension("kind", CategoricalDistribution(["a", "b"])),
        Dimension("of_a", IntDistribution(1, 3), {"kind": ("a",)}),
        Dimension("always", FloatDistribution(0.0, 1.0, step=0.5)),
    )
)


class KilledError(Exception):
    """Stands for a driver that is killed."""


@pytest.fixture
def candidate(recipe):
    """What parameters come to: a run of eight iterations."""

    def make(params):
        algorithm = Maml(inner_lr=params["inner_lr"], inner_steps=params["inner_steps"])
        meta = replace(recipe.meta, batch=4, iterations=8, lr=params["lr"])
        return Candidate(Job(replace(recipe, algorithm=algorithm, meta=meta), EVALUATION), "seed: 3\n")

    return make


@pytest.fixture
def single(pair):
    """A cluster of one worker."""
    return replace(pair, chosen=lambda workers: workers[:1])


def search(folder, cluster, make, config, tell=lambda _: None, space=SPACE):
    """Search in a folder; what came of every trial."""
    with open_study(folder / "study.db", "test", make_pruner(config, 2, 8)) as study:
        Search(cluster, study, space, config, 5, make, folder / "trials", tell).run()
        return outcome(study)


def outcome(study):
    return [
        (trial.state, trial.params, trial.value, trial.intermediate_values, trial.user_attrs.get("parameters_sha256"))
        for trial in study.get_trials()
    ]


def dying(function, *calls):
    """A function in which the driver dies after some of its calls."""
    left, seen = list(calls), 0

    def call(*arguments):
        nonlocal seen
        seen += 1
        function(*arguments)
        if left and seen == left[0]:
            left.pop(0)
            raise KilledError

    return call


@pytest.mark.parametrize(("pruner", "trials"), [("asha", 7), ("median", 4)])
def test_a_study_stopped_and_started_again_equals_one_that_was_not(
    tmp_path, single, candidate, monkeypatch, pruner, trials
):
    monkeypatch.setattr("fanfold.pipeline.search.study.STARTUP", 2)
    config = SearchConfig(trials=trials, pruner=pruner)
    (tmp_path / "straight").mkdir()
    straight = search(tmp_path / "straight", single, candidate, config)
    assert {state for state, *_ in straight} >= {TrialState.COMPLETE, TrialState.PRUNED}

    (tmp_path / "stopped").mkdir()
    tell, kills = dying(lambda _: None, 3, 9), 0  # when a trial is at a rung, begins, or has ended
    # Before the study hears of it.
    monkeypatch.setattr("fanfold.pipeline.search.driver.save_checkpoint", dying(save_checkpoint, 7))
    while True:
        try:
            assert search(tmp_path / "stopped", single, candidate, config, tell) == straight
            break
        except KilledError:
            kills += 1
    assert kills == 3
    # Nothing was computed twice and kept twice, or not at all.
    assert iterations_of(tmp_path / "stopped") == iterations_of(tmp_path / "straight")


def test_a_driver_killed_before_a_trials_first_checkpoint_leaves_no_line_twice(
    tmp_path, single, candidate, monkeypatch
):
    def kill(*_):
        raise KilledError

    monkeypatch.setattr("fanfold.pipeline.search.driver.save_checkpoint", kill)
    with pytest.raises(KilledError):
        search(tmp_path, single, candidate, SearchConfig(trials=1))
    monkeypatch.undo()
    search(tmp_path, single, candidate, SearchConfig(trials=1))
    assert iterations_of(tmp_path) == {"0000": list(range(1, 9))}


def iterations_of(folder):
    """The iterations that each trial's metrics tell of."""
    return {
        path.parent.name: [line["iteration"] for line in lines(path)]
        for path in sorted(folder.glob("trials/*/metrics.jsonl"))
    }


def test_a_trial_has_the_same_parameters_wherever_it_runs(tmp_path, pair, candidate):
    events = []
    found = search(tmp_path, pair, candidate, SearchConfig(trials=3, pruner="none", sampler="random"), events.append)
    assert {event.number for event in events[:4]} == {0, 1}  # two at once: each began, and is at its start
    assert [state for state, *_ in found] == [TrialState.COMPLETE] * 3
    for _, params, value, reported, sha256 in found:
        recipe = candidate(params).job.recipe
        assert sha256 == parameters_sha256(alone(recipe, 8).state.parameters)
        assert list(reported) == [2, 4, 6, 8]
        assert value == reported[8] == max(reported.values())

    together = tmp_path / "together"
    together.mkdir()
    config = SearchConfig(trials=2, pruner="none", sampler="random", workers_per_trial=2)
    assert search(together, pair, candidate, config) == found[:2]


def test_each_trial_is_a_run_of_its_own_in_tensorboard(tmp_path, single, candidate):
    """Whole and without a point twice, wherever the driver dies."""

    def board(trial):
        return TensorBoard(trial.directory.path / "tensorboard", trial.job.recipe, {"lr": trial.job.recipe.meta.lr})

    def killed_at(calls):
        with guarded(TrialRecords(board), "TensorBoard", pytest.fail) as record:
            return search(tmp_path, single, candidate, SearchConfig(trials=4), dying(record, *calls))

    for call in (3, 8):  # when a segment has ended that no checkpoint is of yet, and later
        with pytest.raises(KilledError):
            killed_at([call])
    found = killed_at([])
    assert {state for state, *_ in found} == {TrialState.COMPLETE, TrialState.PRUNED}
    iterations = iterations_of(tmp_path)
    for number, (_, params, _, reported, _) in enumerate(found):
        shown = EventAccumulator(str(tmp_path / "trials" / f"{number:04}" / "tensorboard"), {"scalars": 0}).Reload()
        assert [point.step for point in shown.Scalars("train/loss")] == iterations[f"{number:04}"]
        assert [point.step for point in shown.Scalars("validation/accuracy")] == list(reported)
        started = HParamsPluginData.FromString(
            shown.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        )
        assert started.session_start_info.hparams["lr"].number_value == params["lr"]
        assert "_hparams_/session_end_info" in shown.summary_metadata


def test_a_trial_that_fails_is_recorded_with_its_reason_and_the_others_go_on(tmp_path, pair, candidate):
    def make(params):
        if params["kind"] == "refused":
            raise FanfoldError("This can't be.")
        return fine if params["kind"] == "fine" else diverging

    fine = candidate({"inner_lr": 0.1, "inner_steps": 2, "lr": 1e-3})
    recipe = replace(fine.job.recipe, algorithm=Maml(inner_lr=1e30, inner_steps=4))
    diverging = replace(fine, job=replace(fine.job, recipe=recipe))
    space = Space((Dimension("kind", CategoricalDistribution(["fine", "diverges", "refused"])),))
    config, events = SearchConfig(trials=9, sampler="grid"), []
    with open_study(tmp_path / "study.db", "test", NopPruner()) as study:
        Search(pair, study, space, config, 0, make, tmp_path / "trials", events.append).run()
        by_kind = {trial.params["kind"]: trial for trial in study.get_trials()}
        assert len(study.get_trials()) == 3  # the grid has no more points
    assert by_kind["fine"].state is TrialState.COMPLETE
    assert by_kind["refused"].user_attrs["reason"] == "This can't be."
    assert by_kind["diverges"].state is TrialState.FAIL
    assert by_kind["diverges"].user_attrs["reason"].startswith("The loss or gradient is not finite in iteration 1")
    assert sorted(event.state for event in events if isinstance(event, TrialEnded)) == ["failed", "failed", "finished"]


def test_a_worker_killed_in_the_middle_loses_a_leg_at_most(tmp_path, trio, candidate):
    pids, killed = trio.client.run(os.getpid), []

    def tell(event):
        if isinstance(event, TrialReached) and event.iteration == 4 and not killed:
            killed.append(next(iter(pids.values())))
            os.kill(killed[0], signal.SIGKILL)

    found = search(tmp_path, trio, candidate, SearchConfig(trials=3, pruner="none"), tell)
    assert killed
    assert [state for state, *_ in found] == [TrialState.COMPLETE] * 3
    for _, params, _, _, sha256 in found:
        assert sha256 == parameters_sha256(alone(candidate(params).job.recipe, 8).state.parameters)


def test_when_the_time_is_up_trials_wait_for_the_search_to_go_on(tmp_path, single, candidate):
    short, ends = SearchConfig(trials=2, pruner="none", minutes=0.005), []

    def slowly(event):
        time.sleep(0.4)
        ends.append(event)

    ((state, _, _, reported, _),) = search(tmp_path, single, candidate, short, slowly)
    assert (state, list(reported)) == (TrialState.RUNNING, [2])  # the segment under way was not lost
    assert search(tmp_path, single, candidate, short) == search(tmp_path, single, candidate, short)  # no time is left
    found = search(tmp_path, single, candidate, replace(short, minutes=None))
    assert [state for state, *_ in found] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "grid"])
def test_draws_depend_on_seed_and_number_alone(tmp_path, sampler):
    """One study draws straight on, another is closed in the middle of a trial."""

    def value(params):
        return -sum((0.3 - number) ** 2 for number in params.values() if isinstance(number, float | int))

    space = CONDITIONAL if sampler == "grid" else SPACE
    trials = space.points() if sampler == "grid" else 12
    with open_study(tmp_path / "straight.db", "test", NopPruner()) as study:
        for _ in range(trials):
            trial = study.ask()
            study.tell(trial, value(draw(trial, space, sampler, 1)))
        straight = [trial.params for trial in study.get_trials()]
    assert len({tuple(params.items()) for params in straight}) == trials  # no draw is repeated
    with open_study(tmp_path / "stopped.db", "test", NopPruner()) as study:
        for _ in range(trials - 2):
            trial = study.ask()
            study.tell(trial, value(draw(trial, space, sampler, 1)))
        draw(study.ask(), Space(space.dimensions[:1]), sampler, 1)
    with open_study(tmp_path / "stopped.db", "test", NopPruner()) as study:
        (left,) = left_running(study)
        study.tell(left, value(draw(left, space, sampler, 1)))
        trial = study.ask()
        study.tell(trial, value(draw(trial, space, sampler, 1)))
        stopped = [trial.params for trial in study.get_trials()]
    assert stopped == straight


def test_a_trial_keeps_its_workers_while_they_are_there_and_free():
    assert choose(["a", "b", "c"], {"a"}, ["c"], 1) == ("c",)
    assert choose(["a", "b"], {"a"}, ["c"], 1) == ("b",)
    assert choose(["a", "b", "c", "d"], {"c"}, ["d", "c"], 2) == ("d", "a")
    assert choose([], set(), ["a"], 1) == ()
