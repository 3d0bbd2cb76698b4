import threading

import pytest

from fanfold.pipeline.recording.aside import Aside
from tests.waiting import wait_for


class Slow:
    """Keeps events once it may; refuses one."""

    def __init__(self):
        self.may, self.heard, self.refused, self.ended = threading.Event(), [], [], []

    def __call__(self, event):
        assert self.may.wait(10)
        if event == "refused":
            self.refused.append(event)
            raise OSError("The disk is full.")
        self.heard.append(event)

    def close(self, error):
        self.ended.append((error, list(self.heard)))


def test_nobody_waits_for_a_slow_recorder_but_its_end():
    slow, error = Slow(), KeyboardInterrupt()
    aside = Aside(slow, "slow")
    aside("one")
    aside("two")
    assert slow.heard == []
    slow.may.set()
    aside.close(error)
    assert slow.ended == [(error, ["one", "two"])]


def test_what_goes_wrong_there_is_raised_at_the_next_event():
    slow = Slow()
    slow.may.set()
    aside = Aside(slow, "slow")
    aside("refused")
    wait_for(lambda: aside._trouble is not None)
    with pytest.raises(OSError, match="The disk is full"):
        aside("next")

    at_the_end = Aside(slow, "slow")
    at_the_end("refused")
    with pytest.raises(OSError, match="The disk is full"):
        at_the_end.close(None)


def test_a_recorder_that_failed_is_not_waited_for_with_all_that_waits_for_it():
    slow = Slow()
    aside = Aside(slow, "slow")
    for event in ("refused", "refused", "next"):
        aside(event)
    slow.may.set()
    with pytest.raises(OSError, match="The disk is full"):
        aside.close(None)
    assert (slow.refused, slow.heard, slow.ended) == (["refused"], [], [])
