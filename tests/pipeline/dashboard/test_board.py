"""What the page knows, from plain messages."""

from operator import add

import pytest
from bokeh.models import DataRange1d
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.pipeline.dashboard import board
from fanfold.pipeline.dashboard.board import RUNS, TRIALS, Board, Thinned
from fanfold.pipeline.dashboard.pieces import Pieces
from fanfold.pipeline.dashboard.plugin import BoardPlugin
from fanfold.pipeline.dashboard.style import make_figure
from fanfold.pipeline.executors.stopwatch import Stopwatch
from fanfold.pipeline.messages import TOPIC, understood


def started(run="aa", what="training", **facts):
    message = {
        "kind": "started",
        "run": run,
        "what": what,
        "name": f"run {run}",
        "client": "driver",
        "config": {},
        "iteration": 0,
        "iterations": 100,
        "batch": 10,
        "chunk": 4,
    }
    return {**message, **facts}


def windows(iteration, iterations=5, seconds=2.0, run="aa", **facts):
    message = {
        "kind": "windows",
        "run": run,
        "iteration": iteration,
        "iterations": iterations,
        "tasks": 10 * iterations,
        "seconds": seconds,
        "loss": 1.0,
        "accuracy": 0.5,
        "done": iteration / 100,
        "left": 60.0,
    }
    return {**message, **facts}


def ranked(rank, exchange, adapt=1.0, iteration=0, ranks=2, run="aa", tasks=5):
    return {
        "kind": "ranked",
        "run": run,
        "iteration": iteration,
        "rank": rank,
        "ranks": ranks,
        "worker": f"worker {rank}",
        "tasks": tasks,
        "adapt": adapt,
        "fold": 0.1,
        "step": 0.05,
        "exchange": exchange,
    }


def judged(iteration, accuracy, run="aa"):
    message = {"kind": "judged", "run": run, "iteration": iteration, "accuracy": accuracy, "ci95": 0.01}
    return {**message, "loss": 0.5, "labels": [[[0]]], "confidences": [[[0.9]]]}


def trial(number, state="running", accuracy=None, iteration=0, run="aa"):
    message = {"kind": "trial", "run": run, "number": number, "params": {"lr": "0.1"}, "state": state}
    return {**message, "iteration": iteration, "accuracy": accuracy}


@pytest.fixture
def known():
    """A board with one run."""
    made = Board()
    made.hear(started())
    return made


@given(st.lists(st.integers(0, 9), max_size=300), st.sampled_from([2, 4, 10]))
def test_a_thinned_series_stays_short_and_loses_nothing(items, capacity):
    series = Thinned(add, capacity)
    for item in items:
        series.append(item)
    assert sum(series) == sum(items)
    assert len(series) <= capacity
    assert len(series) >= min(len(items), capacity // 2)


def test_a_thinned_series_is_spaced_evenly():
    series = Thinned(add, 8)
    for _ in range(64):
        series.append(1)
    *whole, last = series
    assert len(set(whole)) == 1
    assert last <= whole[0]


def test_messages_about_unknown_runs_say_nothing():
    empty = Board()
    empty.hear(windows(5))
    assert not empty.runs
    assert empty.newest() is None


def test_a_meta_iteration_is_split_into_phases_that_add_up(known):
    run = known.runs["aa"]
    for worker, chunk in (("w1", 0), ("w2", 1), ("w1", 2)):
        run.computed(worker, "adapt", chunk, seconds=0.5, transfer=0.1)
    run.computed("w1", "fold", 0, seconds=0.2, transfer=0.0)
    run.computed("w2", "step", 0, seconds=0.1, transfer=0.3)
    known.hear(windows(5, iterations=5, seconds=2.0))
    (stretch,) = run.curve
    # 2 workers, 2 s, 5 iterations: worker-seconds times 1 / (2 · 5).
    assert stretch.split() == pytest.approx(
        {"adapt": 0.15, "fold": 0.02, "step": 0.01, "transfer": 0.06, "waiting": 0.16}
    )
    assert sum(stretch.split().values()) == pytest.approx(2.0 / 5)
    assert run.lately == stretch.split()
    assert run.total.tasks == 50


def test_the_last_chunk_of_a_meta_batch_counts_the_tasks_that_it_has(known):
    run = known.runs["aa"]  # 10 tasks in chunks of 4
    run.computed("w1", "adapt", 0, 1.0, 0.0)
    run.computed("w2", "adapt", 2, 0.5, 0.0)
    known.hear(windows(1, iterations=1, seconds=2.0))
    paces = run.paces()
    assert paces["w1"].tasks_per_second == 2.0
    assert paces["w2"].tasks_per_second == 1.0


def test_an_exchange_lasts_as_long_as_for_who_came_last_and_the_others_waited(known):
    run = known.runs["aa"]
    known.hear(ranked(0, [0.3, 0.1], adapt=0.4))
    assert not run.curve
    known.hear(ranked(1, [0.1, 0.4], adapt=0.6))
    known.hear(windows(1, iterations=1, seconds=1.0))
    (stretch,) = run.curve
    split = stretch.split()
    assert split["transfer"] == pytest.approx(0.1 + 0.1)
    assert split["adapt"] == pytest.approx(0.5)
    assert split["waiting"] == pytest.approx(1.0 - 0.5 - 0.1 - 0.05 - 0.2)


def test_a_window_that_was_broken_off_is_forgotten(known):
    run = known.runs["aa"]
    known.hear(ranked(0, [0.1], iteration=0, adapt=9.0))
    known.hear(ranked(1, [0.1], iteration=5, adapt=1.0))
    known.hear(ranked(0, [0.1], iteration=5, adapt=1.0))
    known.hear(windows(10, seconds=2.0))
    (stretch,) = run.curve
    assert stretch.phases["adapt"] == 2.0


def test_who_takes_longer_for_a_task_than_the_others_is_a_straggler(known):
    for rank, adapt in enumerate((1.0, 1.1, 2.0)):
        known.hear(ranked(rank, [0.1], adapt=adapt, ranks=3))
    known.hear(windows(1, seconds=3.0))
    paces = known.runs["aa"].paces()
    assert [paces[f"worker {rank}"].straggles for rank in range(3)] == [False, False, True]
    assert paces["worker 2"].slowness == pytest.approx(2.0 / 1.1)


def test_throughput_is_that_of_the_last_seconds(known):
    run = known.runs["aa"]
    for iteration in range(1, 61):
        run.computed("w1", "adapt", 0, seconds=1.0 if iteration < 20 else 0.25, transfer=0.0)
        known.hear(windows(iteration, iterations=1, seconds=1.0 if iteration < 20 else 0.5))
    assert run.paces()["w1"].tasks_per_second == pytest.approx(4 / 0.5, rel=0.01)


def test_a_long_run_keeps_a_short_curve_with_the_same_sums(known):
    run = known.runs["aa"]
    for iteration in range(1, 2001):
        run.computed("w1", "adapt", 0, seconds=0.5, transfer=0.0)
        known.hear(windows(iteration, iterations=1, seconds=1.0, loss=float(iteration)))
        known.hear(judged(iteration, iteration / 2000))
    assert len(run.curve) <= board.POINTS
    assert len(run.validations) <= board.POINTS
    assert sum(stretch.iterations for stretch in run.curve) == run.iterations_done == 2000
    whole = [stretch.loss * stretch.iterations for stretch in run.curve]
    assert sum(whole) == pytest.approx(sum(range(1, 2001)))
    assert run.total.seconds["adapt"] == pytest.approx(1000)
    assert run.best.iteration == 2000


def test_the_best_validation_is_the_first_of_the_highest(known):
    for iteration, accuracy in ((10, 0.5), (20, 0.8), (30, 0.8), (40, 0.7)):
        known.hear(judged(iteration, accuracy))
    assert known.runs["aa"].best.iteration == 20


def test_the_newest_run_is_one_that_goes_on(known):
    known.hear(started("bb"))
    assert known.newest().started["run"] == "bb"
    known.hear({"kind": "ended", "run": "bb", "state": "failed", "reason": "a loss is not finite"})
    assert known.newest().started["run"] == "aa"
    assert known.runs["bb"].reason == "a loss is not finite"


def test_a_driver_that_is_gone_leaves_its_runs_lost(known):
    known.hear(started("bb", client="another"))
    known.hear(started("cc"))
    known.hear({"kind": "ended", "run": "cc", "state": "ended", "reason": None})
    known.lose("driver")
    assert {name: run.state for name, run in known.runs.items()} == {"aa": "lost", "bb": "running", "cc": "ended"}


def test_old_runs_that_are_over_make_room(known):
    for number in range(RUNS + 5):
        known.hear(started(f"run-{number}"))
        known.hear({"kind": "ended", "run": f"run-{number}", "state": "ended", "reason": None})
    assert len(known.runs) == RUNS
    assert "aa" in known.runs  # it goes on
    assert "run-0" not in known.runs


def test_a_search_keeps_its_trials_at_their_rungs():
    known = Board()
    known.hear(started(what="search"))
    for iteration, accuracy in ((0, None), (10, 0.4), (20, 0.6)):
        known.hear(trial(3, iteration=iteration, accuracy=accuracy))
    known.hear(trial(3, state="pruned", iteration=20, accuracy=0.6))
    run = known.runs["aa"]
    assert [(rung.iteration, rung.accuracy) for rung in run.trials[3].rungs] == [(10, 0.4), (20, 0.6)]
    assert run.trials[3].told["state"] == "pruned"
    assert run.best.accuracy == 0.6


def test_of_very_many_trials_the_poorest_are_forgotten():
    known = Board()
    known.hear(started(what="search"))
    for number in range(TRIALS + 3):
        known.hear(trial(number, state="finished", accuracy=number / 1000, iteration=10))
    assert len(known.runs["aa"].trials) == TRIALS
    assert min(known.runs["aa"].trials) == 3


def test_there_is_no_tick_at_half_an_iteration():
    axis = make_figure("loss", "Loss", "nats", DataRange1d()).xaxis[0]
    assert axis.ticker.min_interval == 1


def test_a_slow_run_has_a_pace(known):
    known.hear(windows(1, 1, seconds=231.0))
    pieces = Pieces()
    pieces.show(known.newest())
    assert "<dd>0.043</dd>" in pieces.roots[0].text


def test_a_stopwatch_says_where_time_went():
    stopwatch = Stopwatch()
    stopwatch.end("adapt")
    stopwatch.end("exchange")
    stopwatch.end("exchange")
    assert len(stopwatch.each("exchange")) == 2
    assert stopwatch.each("fold") == []
    assert stopwatch.total("exchange") == pytest.approx(sum(stopwatch.each("exchange")), abs=1e-5)


MESSAGES = [started(), windows(5), ranked(0, [0.5])]
ODD = st.none() | st.integers(-1, 3) | st.just(2.0**70) | st.text(max_size=3) | st.lists(st.floats(), max_size=2)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MESSAGES), st.dictionaries(st.sampled_from(list(started() | windows(5) | ranked(0, []))), ODD))
def test_messages_of_another_version_are_passed_over(message, changes):
    plugin = BoardPlugin(None)
    for known in MESSAGES:
        plugin.log_event(TOPIC, known)
    for strange in (
        message | changes,
        {key: message[key] for key in message if key not in changes},
        changes,
        None,
        [1],
    ):
        plugin.log_event(TOPIC, strange)
    plugin.board.newest()


def test_messages_of_this_version_are_understood():
    assert all(understood(message) == message for message in MESSAGES)
    for change in ({"iteration": "5"}, {"loss": None}, {"iteration": True}, {"kind": "window"}, {"kind": ["windows"]}):
        assert understood(windows(5) | change) is None
    assert understood(started(config={"a": 1})) is None
    assert understood(ranked(0, "abc")) is None
    assert understood(started(iterations=None)) is not None
