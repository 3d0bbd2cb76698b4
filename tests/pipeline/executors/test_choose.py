"""What suits a run's chunks is picked once, by what they take."""

import re
from dataclasses import replace

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.executors.base import Executor, Window
from fanfold.pipeline.executors.choose import AutoExecutor, open_executor, pick
from fanfold.pipeline.executors.graph import GraphExecutor
from tests.pipeline.executors.gangs import nothing_to_tell


@pytest.mark.parametrize(
    ("chunks", "seconds", "picked"),
    [
        (4, [0.05, 0.05], "collective"),
        (2, [0.1, 0.0, 0.1], "collective"),
        (4, [5.0, 5.0], "graph"),  # a graph costs nothing to speak of
        (8, [0.5, 1.0], "graph"),  # and balances unequal workers
        (32, [1e-3, 2e-3], "collective"),
    ],
)
def test_what_suits_the_chunks_is_picked(chunks, seconds, picked):
    assert pick(chunks, seconds)[0] == picked


class Counted(Executor):
    """An executor that does nothing, and counts."""

    def __init__(self, name, said, scale=1.0):
        self.name, self.said, self.scale = name, said, scale

    def window(self, state, iterations):
        self.said.append(f"{self.name} {iterations}")
        return Window(state, (), (4.0 * self.scale, (5.0 + len(self.said)) * self.scale))

    def map(self, name, function, shared, chunks):
        self.said.append(f"{self.name} maps {name}")
        return []

    def close(self):
        self.said.append(f"{self.name} closed")


def test_the_choice_is_made_once_and_told(recipe):
    events, said = [], []
    state = worker.initialize(recipe)
    with AutoExecutor(Counted("gang", said), Counted("graph", said), 4, events.append) as auto:
        for _ in range(5):
            auto.window(state, 7)
        auto.map("validate", len, [], [])
    assert said == [*["gang 7"] * 3, "gang closed", "graph 7", "graph 7", "graph maps validate", "gang closed"]
    (event,) = events
    times = r"chunks take 5\.00 s: about 12\.00 s an iteration by a gang, 12\.0\d s by a graph"
    assert event.reduction == "graph"
    assert re.fullmatch(times, event.why)


def test_a_gang_that_was_picked_stays(recipe):
    events, said = [], []
    state = worker.initialize(recipe)
    with AutoExecutor(Counted("gang", said, 1e-3), Counted("graph", said), 2, events.append) as auto:
        for _ in range(7):
            auto.window(state, 7)
    assert said == [*["gang 7"] * 7, "gang closed"]
    assert [event.reduction for event in events] == ["collective"]


def test_a_graph_is_what_a_graph_was_asked_for(pair, recipe):
    executor = open_executor(replace(pair, reduction="graph"), recipe, "0123abcd", nothing_to_tell)
    assert type(executor) is GraphExecutor


@pytest.mark.parametrize("wrong", [{"reduction": "tree"}, {"patience": 0}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(FanfoldError, match=r"No reduction 'tree'|cluster\.patience.? must be at least"):
        ClusterConfig(**wrong)


def test_what_was_promised_is_what_was_measured_over_a_slow_link():
    picked, why = pick(2, [0.003, 0.004], 0.209)
    assert picked == "collective"
    assert "about 209 ms an iteration by a gang, 43" in why
