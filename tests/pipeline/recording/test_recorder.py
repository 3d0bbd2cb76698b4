import threading

import pytest

from fanfold.pipeline.recording.recorder import BackgroundRecorder, guarded
from tests.waiting import wait_for


class Kept:
    """Keeps events and how it was closed; fails over the event `refused`, and over its end where `full`."""

    def __init__(self, full=False):
        self.heard, self.refused, self.ended, self.full = [], 0, [], full

    def __call__(self, event):
        if event == "refused":
            self.refused += 1
            raise OSError("The disk is full.")
        self.heard.append(event)

    def close(self, error):
        if self.full:
            raise OSError("The disk\nis full.")
        self.ended.append(error)


class Slow(Kept):
    """The same once it may."""

    def __init__(self):
        super().__init__()
        self.may = threading.Event()

    def __call__(self, event):
        assert self.may.wait(10)
        super().__call__(event)


def test_a_guarded_recorder_hears_all_events_and_the_end():
    kept, said = Kept(), []
    with guarded(kept, "the file", said.append) as listen:
        listen("one")
        listen("two")
        assert kept.ended == []
    assert (kept.heard, kept.ended, said) == (["one", "two"], [None], [])


def test_a_guarded_recorder_that_fails_is_named_once_and_hears_no_more():
    kept, said = Kept(), []
    with guarded(kept, "the file", said.append) as listen:
        for event in ("one", "refused", "refused", "two"):
            listen(event)
    assert (kept.heard, kept.refused, kept.ended) == (["one"], 1, [])
    assert said == ["the file records no more of this (The disk is full.)"]


def test_a_guarded_recorder_that_fails_at_the_end_costs_a_line():
    said = []
    with guarded(Kept(full=True), "the file", said.append) as listen:
        listen("one")
    assert said == ["the file records no more of this (The disk is full.)"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("lost")])
def test_a_guarded_recorder_is_told_what_ended_the_run_which_is_raised_on(error):
    kept = Kept()

    def run():
        with guarded(kept, "the file", pytest.fail) as listen:
            listen("one")
            raise error

    with pytest.raises(type(error)) as caught:
        run()
    assert caught.value is error
    assert kept.ended == [error]


def test_a_guarded_recorder_that_fails_over_a_failed_run_hides_no_error():
    said = []

    def run():
        with guarded(Kept(full=True), "the file", said.append):
            raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        run()
    assert len(said) == 1


def test_nobody_waits_for_a_slow_recorder_before_its_end():
    slow, error = Slow(), KeyboardInterrupt()
    background = BackgroundRecorder(slow, "slow")
    background("one")
    background("two")
    assert slow.heard == []
    slow.may.set()
    background.close(error)
    assert (slow.heard, slow.ended) == (["one", "two"], [error])


def test_an_error_in_the_background_is_raised_at_a_later_event():
    background = BackgroundRecorder(Kept(), "slow")
    background("refused")

    def raised():
        try:
            background("next")
        except OSError as error:
            return str(error)
        return None

    wait_for(lambda: raised() == "The disk is full.")


def test_an_error_in_the_background_is_raised_at_the_end_at_the_latest():
    background = BackgroundRecorder(Kept(), "slow")
    background("refused")
    with pytest.raises(OSError, match="The disk is full"):
        background.close(None)


def test_a_recorder_that_failed_is_handed_none_of_the_events_that_wait_for_it():
    slow = Slow()
    background = BackgroundRecorder(slow, "slow")
    for event in ("refused", "refused", "next"):
        background(event)
    slow.may.set()
    with pytest.raises(OSError, match="The disk is full"):
        background.close(None)
    assert (slow.refused, slow.heard, slow.ended) == (1, [], [])
