"""A search's trials, each recorded by a recorder of its own."""

import pytest

from fanfold.data.errors import RunError
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.events import Noticed, TrainingStarted
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.events import SegmentEnded, TrialBegan, TrialEnded, TrialReached
from fanfold.pipeline.search.recording import TrialRecords
from fanfold.pipeline.training import Job


class Kept:
    """Keeps what it hears."""

    def __init__(self):
        self.heard, self.ended = [], []

    def __call__(self, event):
        self.heard.append(event)

    def close(self, error):
        self.ended.append(error)


@pytest.fixture
def began(recipe, tmp_path):
    def event(number, iteration=0):
        started = TrainingStarted(f"trial-{number}", iteration, 8, 0.0, None)
        return TrialBegan(number, RunDirectory(tmp_path / str(number)), Job(recipe, EvaluationConfig()), "", started)

    return event


@pytest.fixture
def kept():
    return {}


@pytest.fixture
def records(kept):
    return TrialRecords(lambda trial: kept.setdefault(trial.number, Kept()))


def test_each_trial_hears_of_itself_alone(records, kept, began):
    for event in (
        *(began(0), TrialReached(0, {}, 0, 8, None), began(1, 4), SegmentEnded(1, (Noticed("one"), Noticed("two")))),
        *(Noticed("trial 0: something"), SegmentEnded(0, (Noticed("three"),))),
    ):
        records(event)
    assert kept[0].heard == [began(0).started, Noticed("three")]
    assert kept[1].heard == [began(1, 4).started, Noticed("one"), Noticed("two")]
    assert kept[0].ended == kept[1].ended == []


def test_how_a_trial_ended_is_told_once(records, kept, began):
    for number in range(3):
        records(began(number))
    records(TrialEnded(0, {}, "finished", 8, 0.9))
    records(TrialEnded(1, {}, "pruned", 2, 0.5))
    records(TrialEnded(2, {}, "failed", 2, reason="It diverged."))
    records(TrialEnded(3, {}, "failed", 0, reason="It could not begin."))
    records.close(None)
    assert kept[0].ended == kept[1].ended == [None]
    (error,) = kept[2].ended
    assert isinstance(error, RunError)
    assert str(error) == "It diverged."
    assert set(kept) == {0, 1, 2}


def test_a_trial_that_waits_for_the_search_to_go_on_has_not_ended_well(records, kept, began):
    records(began(0))
    records.close(None)
    (error,) = kept[0].ended
    assert isinstance(error, KeyboardInterrupt)

    stop = KeyboardInterrupt()
    again = TrialRecords(lambda trial: kept.setdefault(1, Kept()))
    again(began(0, 4))
    again.close(stop)
    assert kept[1].ended == [stop]
