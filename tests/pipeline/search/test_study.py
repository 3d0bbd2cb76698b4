import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BruteForceSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.search.space import Dimension, Space
from fanfold.pipeline.search.study import (
    Counts,
    SearchConfig,
    best_trial,
    count,
    draw,
    left_running,
    make_pruner,
    make_sampler,
    open_study,
)

SPACE = Space(
    (
        Dimension("lr", FloatDistribution(1e-3, 1.0, log=True)),
        Dimension("kind", CategoricalDistribution(["a", "b"])),
        Dimension("of_a", IntDistribution(1, 1000), {"kind": ("a",)}),
    )
)


@pytest.fixture
def study(tmp_path):
    with open_study(tmp_path / "study.db", "test", NopPruner()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": 0}, "`search.trials` must be at least 1, not 0."),
        ({"rung": 0}, "`search.rung` must be at least 1, not 0."),
        ({"factor": 1}, "`search.factor` must be at least 2, not 1."),
        ({"workers_per_trial": 0}, "`search.workers_per_trial` must be at least 1, not 0."),
        ({"retrain": 0}, "`search.retrain` must be at least 1, not 0."),
        ({"minutes": 0.0}, "`search.minutes` must be above 0, not 0.0."),
        ({"minutes": float("nan")}, "`search.minutes` must be above 0, not nan."),
        ({"minutes": float("inf")}, "`search.minutes` must be above 0, not inf."),
    ],
)
def test_a_field_out_of_range_is_named(wrong, message):
    with pytest.raises(FanfoldError) as caught:
        SearchConfig(**wrong)
    assert (str(caught.value), caught.value.status) == (message, 2)


def test_a_study_survives_its_being_closed(tmp_path):
    with open_study(tmp_path / "study.db", "test", NopPruner()) as study:
        study.tell(study.ask({"x": IntDistribution(3, 3)}), 0.5)
    with open_study(tmp_path / "study.db", "test", NopPruner()) as study:
        (trial,) = study.get_trials()
        assert (trial.params, trial.value) == ({"x": 3}, 0.5)
        assert study.direction is optuna.study.StudyDirection.MAXIMIZE


def test_a_second_search_in_the_same_directory_is_refused_as_long_as_the_first_goes_on(tmp_path):
    with (
        open_study(tmp_path / "study.db", "test", NopPruner()),
        pytest.raises(FanfoldError, match=r"The study .*study\.db is being written by process \d+ on .*"),
        open_study(tmp_path / "study.db", "test", NopPruner()),
    ):
        pass
    with open_study(tmp_path / "study.db", "test", NopPruner()) as study:
        assert not study.get_trials()


def test_a_file_that_is_no_study_and_one_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "other.db").write_text("no database" * 100)
    with (
        pytest.raises(FanfoldError, match=r"The study .*other\.db can't be opened"),
        open_study(tmp_path / "other.db", "x", NopPruner()),
    ):
        pass
    (tmp_path / "third.lock").mkdir()
    with (
        pytest.raises(FanfoldError, match=r"The study .*third\.db can't be written \(Is a directory\)"),
        open_study(tmp_path / "third.db", "x", NopPruner()),
    ):
        pass


def test_samplers_and_pruners_by_name():
    kinds = {"tpe": TPESampler, "random": RandomSampler, "cmaes": CmaEsSampler, "grid": BruteForceSampler}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExperimentalWarning)
        assert all(isinstance(make_sampler(name, 0), kind) for name, kind in kinds.items())
    with pytest.raises(ValueError, match="bayes"):
        make_sampler("bayes", 0)
    pruners = {
        "asha": SuccessiveHalvingPruner,
        "hyperband": HyperbandPruner,
        "median": MedianPruner,
        "none": NopPruner,
    }
    for name, kind in pruners.items():
        assert isinstance(make_pruner(SearchConfig(pruner=name), 2, 8), kind)


def pruned(study, config, values):
    """At which step each trial is pruned, if it is, that reports its value at the steps 10, 20, 30 and 40."""
    study.pruner = make_pruner(config, 10, 40)
    found = []
    for value in values:
        trial, at = study.ask(), None
        for step in (10, 20, 30, 40):
            trial.report(value, step)
            if trial.should_prune():
                at = step
                break
        study.tell(trial, value) if at is None else study.tell(trial, state=TrialState.PRUNED)
        found.append(at)
    return found


FALLING = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def test_successive_halving_prunes_poor_trials_at_the_first_rung(study):
    assert pruned(study, SearchConfig(pruner="asha"), FALLING) == [None, *[10] * 6]


@pytest.mark.parametrize(("factor", "goes_on"), [(3, True), (4, False)])
def test_one_of_as_many_trials_as_the_factor_goes_on(study, factor, goes_on):
    *_, second_of_six = pruned(study, SearchConfig(pruner="asha", factor=factor), (0.9, 0.1, 0.2, 0.3, 0.4, 0.8))
    assert (second_of_six != 10) is goes_on


def test_the_median_pruner_waits_for_some_trials_to_end(study):
    found = pruned(study, SearchConfig(pruner="median"), FALLING)
    assert found[:5] == [None] * 5
    assert all(found[5:])


def test_without_a_pruner_every_trial_ends(study):
    assert pruned(study, SearchConfig(pruner="none"), FALLING) == [None] * 7


def test_draws_depend_on_the_seed_and_the_number_and_keep_the_conditions(study):
    drawn = [draw(study.ask(), SPACE, "random", 1) for _ in range(8)]
    assert all(1e-3 <= params["lr"] <= 1 for params in drawn)
    assert len({params["lr"] for params in drawn}) == 8
    assert all(("of_a" in params) == (params["kind"] == "a") for params in drawn)
    assert {params["kind"] for params in drawn} == {"a", "b"}
    assert [trial.params for trial in study.get_trials()] == drawn  # kept in the study

    fresh = optuna.create_study()
    assert [draw(fresh.ask(), SPACE, "random", 1) for _ in range(8)] == drawn
    other = optuna.create_study()
    assert [draw(other.ask(), SPACE, "random", 2) for _ in range(8)] != drawn


def test_a_draw_depends_on_its_place_in_the_space_and_not_on_those_after_it():
    alike = Space(tuple(Dimension(key, FloatDistribution(0.0, 1.0)) for key in "xy"))
    drawn = draw(optuna.create_study().ask(), alike, "random", 1)
    assert drawn["x"] != drawn["y"]
    shorter = Space(SPACE.dimensions[:1])
    params = draw(optuna.create_study().ask(), SPACE, "random", 1)
    assert draw(optuna.create_study().ask(), shorter, "random", 1) == {"lr": params["lr"]}


def test_a_trial_that_was_left_running_keeps_what_it_drew(study):
    trial = study.ask()
    before = draw(trial, Space(SPACE.dimensions[:2]), "tpe", 1)
    (left,) = left_running(study)
    after = draw(left, SPACE, "tpe", 1)
    assert left.number == trial.number
    assert {key: after[key] for key in before} == before


def test_trials_are_counted_by_their_states(study):
    for state, value in ((None, 0.5), (None, 0.7), (TrialState.PRUNED, None), (TrialState.FAIL, None)):
        study.tell(study.ask(), value, state)
    study.ask()
    found = count(study)
    assert found == Counts(finished=2, pruned=1, failed=1, running=1)
    assert (found.ended, found.all) == (4, 5)


def test_the_best_trial_is_the_first_finished_one_of_the_highest_accuracy(study):
    assert best_trial(study) is None
    pruned = study.ask()
    pruned.report(0.99, 1)
    study.tell(pruned, state=TrialState.PRUNED)
    assert best_trial(study) is None
    for value in (0.5, 0.8, 0.8, 0.6):
        study.tell(study.ask(), value)
    assert best_trial(study).number == 2


def test_folders_with_a_question_mark_have_studies_of_their_own(tmp_path):
    for name in ("q?x", "q?y", "a b#%20"):
        (tmp_path / name).mkdir()
        with open_study(tmp_path / name / "study.db", "test", NopPruner()) as study:
            assert not study.get_trials()
            study.tell(study.ask({"x": IntDistribution(3, 3)}), 0.5)
        assert (tmp_path / name / "study.db").stat().st_size
    assert len(list(tmp_path.iterdir())) == 3
