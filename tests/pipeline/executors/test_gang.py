"""Gangs of workers give the graph's numbers, whoever is in them and whoever leaves them."""

import os
import re
import signal
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from distributed import Client

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import worker as work
from fanfold.pipeline.cluster.cluster import ClusterConfig
from fanfold.pipeline.events import Noticed, ReductionPicked
from fanfold.pipeline.executors import gang
from fanfold.pipeline.executors import gang_member as collective
from fanfold.pipeline.executors.choose import Auto, open_reduction, pick, run_window
from fanfold.pipeline.executors.communicator import DisbandedError, from_rows, segment_size, to_rows
from fanfold.pipeline.executors.gang import Gangs
from fanfold.pipeline.executors.gang_member import Window
from fanfold.pipeline.executors.graph import share
from fanfold.pipeline.fold import FAN_IN, ChunkSum, fold_ahead, fold_all
from fanfold.pipeline.recipe import Meta
from tests.pipeline.executors.gangs import in_gangs, nothing_to_tell, of_share
from tests.pipeline.reference import assert_same, run_alone
from tests.waiting import wait_for

PATIENCE = 3.0


def notices(events):
    return [event.text for event in events if isinstance(event, Noticed)]


def window_by_window(cluster, recipe, iterations, tell=nothing_to_tell):
    """The state after some iterations by gangs, with the records of all of them."""
    run, state, records = uuid4().hex[:8], work.initialize(recipe), ()
    with open_reduction(cluster, run, recipe, tell) as reduce:
        while state.iteration < iterations:
            state = reduce(state, min(recipe.meta.window, iterations - state.iteration))
            records, state = records + state.records, work.without_records(state)
    return replace(state, records=records)


def send(signal_number, cluster, worker):
    """Send a worker's process a signal; the process."""
    pid = cluster.client.run(os.getpid, workers=[worker])[worker]
    os.kill(pid, signal_number)
    return pid


METAS = {
    "chunks that don't divide": Meta(batch=10, chunk=3, window=3, lr=3e-3, average=0.9),
    "fewer chunks than workers": Meta(batch=3, chunk=2, window=3, iterations=6, lr=3e-3, schedule="cosine"),
    "folded ahead, one way down": Meta(batch=2 * FAN_IN, chunk=1, window=3, lr=0.1, optimizer="sgd"),
}


@pytest.mark.parametrize("name", METAS)
def test_any_number_of_workers_gives_the_graphs_bits(trio, recipe, name):
    recipe = replace(recipe, meta=METAS[name])
    alone = run_alone(recipe, 4)
    assert_same(window_by_window(replace(trio, reduction="graph"), recipe, 4), alone)
    for workers in (1, 2, 3):
        assert_same(window_by_window(in_gangs(trio, **of_share(*range(workers))), recipe, 4), alone)


def test_a_window_is_one_task_a_worker_and_a_gang_stays_together(trio, recipe):
    state = work.initialize(recipe)
    with closing(Gangs(in_gangs(trio), "0d15ea5f", recipe, nothing_to_tell)) as gangs:
        for _ in range(3):
            state = work.without_records(gangs.window(state, 2).state)
        assert gangs._formed == 1
    assert set(trio.client.run(lambda: len(collective._seats)).values()) == {0}


def test_a_window_starts_from_the_state_it_is_given_wherever_the_gang_stands(trio, recipe):
    with closing(Gangs(in_gangs(trio), uuid4().hex[:8], recipe, nothing_to_tell)) as gangs:
        state = work.without_records(gangs.window(work.initialize(recipe), 2).state)
        elsewhere = replace(state, parameters=state.parameters / 2)
        for start in (elsewhere, state):
            expected = run_window(trio, uuid4().hex[:8], recipe, start, 2)
            assert_same(gangs.window(start, 2).state, expected)
        assert gangs._formed == 1


def test_a_gang_goes_on_with_the_next_window_before_it_is_asked_for_it(trio, recipe):
    expected = [run_alone(recipe, iterations) for iterations in (2, 5, 6)]
    with closing(Gangs(in_gangs(trio), uuid4().hex[:8], recipe, nothing_to_tell)) as gangs:
        state, records, handed = work.initialize(recipe), (), []
        for iterations, ahead, alone in zip((2, 3, 1), (3, 1, 0), expected, strict=True):
            state = gangs.window(state, iterations, ahead).state
            records, state = records + state.records, work.without_records(state)
            handed.append(gangs._handed)
            assert_same(replace(state, records=records), alone)
        assert handed == [2, 3, 3]
        assert gangs._formed == 1


def test_what_was_begun_ahead_and_is_not_asked_for_changes_nothing(trio, recipe):
    events = []
    with closing(Gangs(in_gangs(trio), uuid4().hex[:8], recipe, events.append)) as gangs:
        first = work.without_records(gangs.window(work.initialize(recipe), 2, 3).state)
        other = work.without_records(gangs.window(first, 2, 2).state)  # fewer than was said
        assert_same(replace(other, records=()), replace(run_alone(recipe, 4), records=()))
        again = gangs.window(first, 3).state  # from elsewhere than it went on from
        assert_same(replace(again, records=()), replace(run_alone(recipe, 5), records=()))


def test_a_worker_lost_while_the_gang_is_ahead_costs_nothing_but_time(trio, recipe):
    events = []
    with closing(Gangs(in_gangs(trio), uuid4().hex[:8], recipe, events.append)) as gangs:
        state = work.without_records(gangs.window(work.initialize(recipe), 2, 80).state)
        send(signal.SIGKILL, trio, trio.addresses[0])
        state = work.without_records(gangs.window(state, 80).state)
    assert state.parameters.tobytes() == run_alone(recipe, 82).parameters.tobytes()
    assert any("computed again" in text for text in notices(events))


LONG = 24  # iterations of a window: long enough that something happens in the middle of it


@contextmanager
def training(cluster, recipe, tell):
    """A run by gangs on another thread: one long window, and two iterations more when it may go on. What it finds.

    The run has an identifier of its own: the scheduler knows the keys of runs before it as long as anyone holds them.
    """
    found, go_on = {"run": uuid4().hex[:8]}, threading.Event()

    def compute():
        with open_reduction(cluster, found["run"], recipe, tell) as reduce:
            found["state"] = reduce(work.initialize(recipe), LONG)
            go_on.wait(60)
            found["more"] = reduce(work.without_records(found["state"]), 2)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield found
    finally:
        go_on.set()
        thread.join(60)
    assert not thread.is_alive()
    assert_same(found["state"], run_alone(recipe, LONG))
    assert_same(found["more"], run_alone(recipe, 2, work.without_records(found["state"])))


def members(cluster, run, windows):
    """The workers of a run's last gang by rank, once it has been at so many windows and is in the middle of one."""

    def at_work():
        tasks = cluster.client.cluster.scheduler.tasks
        keys = sorted(key for key in list(tasks) if key[:2] == (f"window-{run}", windows))
        found = [tasks.get(key) for key in keys]
        return all(task and task.processing_on for task in found) and [task.processing_on.address for task in found]

    found = wait_for(at_work)
    time.sleep(0.1)
    return found


def test_workers_killed_in_mid_window_change_nothing(trio, slow_recipe):
    """First one that is like the others, then the one that has the store and the state; those that come anew help."""
    cluster, events, lost = in_gangs(trio), [], []
    with training(cluster, slow_recipe, events.append) as found:
        for rank in (1, 0):
            lost.append(members(cluster, found["run"], len(lost) + 1)[rank])
            send(signal.SIGKILL, cluster, lost[-1])
            wait_for(lambda: len(notices(events)) == len(lost), 5)
    assert notices(events) == [f"{worker} is gone: iterations 1 to {LONG} are computed again" for worker in lost]
    wait_for(lambda: cluster.workers == 3)


def test_a_stopped_worker_is_left_out_and_does_no_harm_when_it_goes_on(trio, slow_recipe):
    cluster, events = in_gangs(trio, PATIENCE), []
    with training(cluster, slow_recipe, events.append) as found:
        stopped = members(cluster, found["run"], 1)[0]
        pid = send(signal.SIGSTOP, cluster, stopped)
        try:
            wait_for(lambda: notices(events), PATIENCE + 10)
            assert len(members(cluster, found["run"], 2)) == 2
            wait_for(lambda: "state" in found)  # without it
        finally:  # the tests after this one have the same workers
            os.kill(pid, signal.SIGCONT)  # what it was at, it is still at while the others go on
    text = f"{stopped} has been silent for {PATIENCE:g} s: iterations 1 to {LONG} are computed again"
    assert notices(events) == [text]


def test_workers_that_come_are_in_the_next_gang_and_those_that_go_are_not(trio, recipe):
    state, alone = work.initialize(recipe), run_alone(recipe, 6)
    chosen = [trio.addresses[:1]]
    with closing(Gangs(in_gangs(trio, chosen=lambda _: chosen[-1]), "0d15ea60", recipe, nothing_to_tell)) as gangs:
        for count in (1, 3, 2):
            chosen.append(trio.addresses[-count:])
            window = gangs.window(work.without_records(state), 2)
            assert len(window.seconds) == count
            assert all(0 < seconds < 10 for seconds in window.seconds)
            state = window.state
    assert replace(state, records=()).parameters.tobytes() == alone.parameters.tobytes()


def test_runs_of_several_drivers_share_the_workers(trio, recipe):
    """Three gangs, with some of the workers in common, and a graph: none waits for ever for another."""
    found = {}
    shares = {"01": (0, 1, 2), "02": (0, 1), "03": (1, 2), "04": None}

    def compute(run, share, client):
        settings = {"reduction": "graph"} if share is None else {"reduction": "collective", **of_share(*share)}
        found[run] = window_by_window(replace(trio, client=client, **settings), short, 10)

    short = replace(recipe, meta=replace(recipe.meta, window=1))
    with Client(trio.client.scheduler.address, set_as_default=False) as other:
        threads = [
            threading.Thread(target=compute, args=(run, share, other if run < "03" else trio.client), daemon=True)
            for run, share in shares.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert set(found) == set(shares)
    alone = run_alone(recipe, 10)
    for state in found.values():
        assert_same(state, alone)


def test_a_loss_that_is_not_finite_is_said_as_by_the_graph(trio, recipe):
    wild = replace(recipe, meta=replace(recipe.meta, lr=1e30, window=4))
    errors = []
    for cluster in (replace(trio, reduction="graph"), in_gangs(trio)):
        with pytest.raises(RunError, match=r"not finite in iteration \d+, task numbers \d+") as caught:
            window_by_window(cluster, wild, 4)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def fail_at(error):
    def adapt(recipe, state, first, last):
        if state.iteration == 1:
            raise error
        return work.real_adapt(recipe, state, first, last)

    work.real_adapt, work.adapt = work.adapt, adapt


def mend():
    work.adapt = work.real_adapt


def test_an_error_of_one_worker_ends_the_window_of_all(trio, recipe):
    victim = trio.addresses[1:2]
    trio.client.run(fail_at, FanfoldError("its disk is gone"), workers=victim)
    try:
        with pytest.raises(FanfoldError, match="its disk is gone"):
            window_by_window(in_gangs(trio), recipe, 5)
    finally:
        trio.client.run(mend, workers=victim)
    began = time.monotonic()
    assert_same(window_by_window(in_gangs(trio), recipe, 1), run_alone(recipe, 1))  # the others didn't go on waiting
    assert time.monotonic() - began < 5


def test_a_gang_that_never_comes_about_is_given_up(trio, recipe, monkeypatch):
    monkeypatch.setattr(gang, "NOTICE", 0.0)

    def refuse(*_):
        raise DisbandedError("no way")

    monkeypatch.setattr(Gangs, "_form", refuse)
    events, state = [], work.initialize(recipe)
    with pytest.raises(RunError, match=r"4 gangs.*over iterations 1 to 2 \(no way\).*--resume"):
        Gangs(in_gangs(trio), "0d15ea61", recipe, events.append).window(state, 2)
    assert len(events) == 4
    assert_same(window_by_window(replace(trio, reduction="auto"), recipe, 2, tell=events.append), run_alone(recipe, 2))
    assert events[-1] == ReductionPicked("graph", "4 gangs broke one after another; the last: no way")


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


def test_the_choice_is_made_once_and_told(recipe):
    class Fake:
        windows, closed = 0, 0

        def window(self, state, iterations, ahead=0):
            self.windows += 1
            return Window(state, (4.0, 5.0 + self.windows))

        def close(self):
            self.closed += 1

    events, gangs, graphs = [], Fake(), []
    auto = Auto(gangs, lambda state, iterations: graphs.append(iterations) or state, 4, events.append)
    for _ in range(6):
        auto(work.initialize(recipe), 7)
    assert (gangs.windows, gangs.closed, graphs) == (3, 1, [7, 7, 7])
    (event,) = events
    times = r"chunks take 5\.00 s: about 12\.00 s an iteration by a gang, 12\.0\d s by a graph"
    assert event.reduction == "graph"
    assert re.fullmatch(times, event.why)


@pytest.mark.parametrize("wrong", [{"reduction": "tree"}, {"patience": 0}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(FanfoldError, match=r"No reduction 'tree'|`cluster\.patience` must be at least"):
        ClusterConfig(**wrong)


@pytest.mark.parametrize(("chunks", "ranks"), [(1, 3), (5, 2), (8, 1), (16, 2), (17, 1), (70, 3), (128, 2)])
def test_sums_cut_into_segments_are_the_sums(chunks, ranks):
    """Folded ahead, cut up, folded and put together again: the bits of the whole fold."""
    random, size = np.random.default_rng(chunks), 11
    parts = [
        ChunkSum(random.normal(size=size).astype(np.float32), *random.normal(size=2), 3, (place,) * (place % 3))
        for place in range(chunks)
    ]
    owners = [share(place, chunks, ranks) for place in range(chunks)]
    sent = []
    for rank in range(ranks):
        own = [part for part, owner in zip(parts, owners, strict=True) if owner == rank]
        ahead, left = fold_ahead(own, owners, rank)
        assert len(ahead) == left.count(rank)
        sent.append(to_rows(ahead, ranks, size))
    length = segment_size(size, ranks)
    found = [from_rows(np.concatenate([rows[rank] for rows in sent]), length) for rank in range(ranks)]
    totals, whole = [fold_all(sums) for sums, _ in found], fold_all(parts)
    assert np.concatenate([total.gradient for total in totals])[:size].tobytes() == whole.gradient.tobytes()
    for total, (_, broken) in zip(totals, found, strict=True):
        assert (total.loss, total.accuracy, total.tasks) == (whole.loss, whole.accuracy, whole.tasks)
        assert broken == len(whole.broken)
