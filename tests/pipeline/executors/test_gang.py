"""Gangs of workers give the graph's numbers, whoever is in them and whoever leaves them."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import psutil
import pytest
from distributed import Client

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import worker
from fanfold.pipeline.events import Noticed, ReductionPicked
from fanfold.pipeline.executors import gang, gang_member
from fanfold.pipeline.executors.base import Window
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.communicator import DisbandedError
from fanfold.pipeline.executors.gang import GangExecutor
from fanfold.pipeline.executors.local import plain_window
from fanfold.pipeline.fold import FAN_IN
from fanfold.pipeline.recipe import Meta
from tests.pipeline.executors.gangs import in_gangs, nothing_to_tell, of_share
from tests.pipeline.reference import alone, assert_same
from tests.waiting import wait_for

PATIENCE = 3.0


def notices(events):
    return [event.text for event in events if isinstance(event, Noticed)]


def window_by_window(cluster, recipe, iterations, tell=nothing_to_tell):
    """The window of some iterations, in windows of the recipe's length."""
    found = Window(worker.initialize(recipe), ())
    with open_executor(cluster, recipe, uuid4().hex[:8], tell) as executor:
        while (left := iterations - found.state.iteration) > 0:
            window = executor.window(found.state, min(recipe.meta.window, left))
            found = Window(window.state, found.records + window.records)
    return found


def send(signal_number, cluster, worker):
    """Send a worker's process a signal; the process."""
    pid = cluster.client.run(os.getpid, workers=[worker])[worker]
    os.kill(pid, signal_number)
    return pid


def test_a_gang_s_workers_listen_to_their_own_machine_alone(pair, recipe):
    with open_executor(in_gangs(pair), recipe, uuid4().hex[:8], nothing_to_tell) as executor:
        executor.window(worker.initialize(recipe), 1)
        driver = psutil.Process()
        processes = [driver, *driver.children(recursive=True)]
        hosts = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
    assert hosts == {"127.0.0.1"}


SETTINGS = {
    "chunks that don't divide": {"meta": Meta(batch=10, chunk=3, window=3, lr=3e-3, average=0.9)},
    "fewer chunks than workers, of augmented pictures": {
        "meta": Meta(batch=3, chunk=2, window=3, iterations=6, lr=3e-3, schedule="cosine"),
        "augment": "flip,crop,colour",
    },
    "folded ahead, one way down": {"meta": Meta(batch=2 * FAN_IN, chunk=1, window=3, lr=0.1, optimizer="sgd")},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_any_number_of_workers_gives_the_same_bits(trio, recipe, settings):
    recipe = replace(recipe, **settings)
    expected = alone(recipe, 4)
    assert_same(window_by_window(replace(trio, reduction="graph"), recipe, 4), expected)
    for workers in (1, 2, 3):
        assert_same(window_by_window(in_gangs(trio, **of_share(*range(workers))), recipe, 4), expected)


def formed(cluster, run):
    """How many gangs a run has formed: each has a name of its own, by number."""
    names = cluster.client.run(
        lambda run: [seat.gang for key, seat in gang_member._seats.items() if key[0] == run], run
    )
    return {int(name.rpartition("-")[2]) for found in names.values() for name in found}


def test_a_window_is_one_task_a_worker_and_a_gang_stays_together(trio, recipe):
    with GangExecutor(in_gangs(trio), recipe, "0d15ea5f", nothing_to_tell) as executor:
        state = worker.initialize(recipe)
        for _ in range(3):
            state = executor.window(state, 2).state
        assert formed(trio, "0d15ea5f") == {1}
    assert set(trio.client.run(gang_member.seats).values()) == {0}


def test_a_window_starts_from_the_state_it_is_given_wherever_the_gang_stands(trio, recipe):
    run = uuid4().hex[:8]
    with GangExecutor(in_gangs(trio), recipe, run, nothing_to_tell) as executor:
        state = executor.window(worker.initialize(recipe), 2).state
        elsewhere = replace(state, parameters=state.parameters / 2)
        averaged = replace(state, average=state.average / 2)
        for start in (elsewhere, state, averaged):
            assert_same(executor.window(start, 2), plain_window(recipe, start, 2))
        assert formed(trio, run) == {1}


LONG = 24  # iterations of a window: long enough that something happens in the middle of it


@contextmanager
def training(cluster, recipe, tell):
    """A run by gangs on another thread: one long window, and two iterations more when it may go on. What it finds.

    The run has an identifier of its own: the scheduler knows the keys of runs before it as long as anyone holds them.
    """
    found, go_on = {"run": uuid4().hex[:8]}, threading.Event()

    def compute():
        with open_executor(cluster, recipe, found["run"], tell) as executor:
            found["window"] = executor.window(worker.initialize(recipe), LONG)
            go_on.wait(60)
            found["more"] = executor.window(found["window"].state, 2)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield found
    finally:
        go_on.set()
        thread.join(60)
    assert not thread.is_alive()
    assert_same(found["window"], alone(recipe, LONG))
    assert_same(found["more"], plain_window(recipe, found["window"].state, 2))


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
            wait_for(lambda: "window" in found)  # without it
        finally:  # the tests after this one have the same workers
            os.kill(pid, signal.SIGCONT)  # what it was at, it is still at while the others go on
    text = f"{stopped} has been silent for {PATIENCE:g} s: iterations 1 to {LONG} are computed again"
    assert notices(events) == [text]


def test_workers_that_come_are_in_the_next_gang_and_those_that_go_are_not(trio, recipe):
    state, chosen = worker.initialize(recipe), [trio.addresses[:1]]
    cluster = in_gangs(trio, chosen=lambda _: chosen[-1])
    with GangExecutor(cluster, recipe, "0d15ea60", nothing_to_tell) as executor:
        for count in (1, 3, 2):
            chosen.append(trio.addresses[-count:])
            window = executor.window(state, 2)
            assert len(window.seconds) == count
            assert all(0 < seconds < 10 for seconds in window.seconds)
            state = window.state
    assert state.parameters.tobytes() == alone(recipe, 6).state.parameters.tobytes()


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
    expected = alone(recipe, 10)
    for window in found.values():
        assert_same(window, expected)


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
        return worker.real_adapt(recipe, state, first, last)

    worker.real_adapt, worker.adapt = worker.adapt, adapt


def mend():
    worker.adapt = worker.real_adapt


def test_an_error_of_one_worker_ends_the_window_of_all(trio, recipe):
    victim = trio.addresses[1:2]
    trio.client.run(fail_at, FanfoldError("its disk is gone"), workers=victim)
    try:
        with pytest.raises(FanfoldError, match="its disk is gone"):
            window_by_window(in_gangs(trio), recipe, 5)
    finally:
        trio.client.run(mend, workers=victim)
    began = time.monotonic()
    assert_same(window_by_window(in_gangs(trio), recipe, 1), alone(recipe, 1))  # the others didn't go on waiting
    assert time.monotonic() - began < 5


def test_a_gang_that_never_comes_about_is_given_up(trio, recipe, monkeypatch):
    monkeypatch.setattr(gang, "NOTICE", 0.0)

    def refuse(*_):
        raise DisbandedError("no way")

    monkeypatch.setattr(GangExecutor, "_form", refuse)
    events, state = [], worker.initialize(recipe)
    with pytest.raises(RunError, match=r"4 gangs.*over iterations 1 to 2 \(no way\)"):
        GangExecutor(in_gangs(trio), recipe, "0d15ea61", events.append).window(state, 2)
    assert len(events) == 4
    found = window_by_window(replace(trio, reduction="auto"), recipe, 2, tell=events.append)
    assert_same(found, alone(recipe, 2))
    assert events[-1] == ReductionPicked("graph", "4 gangs broke one after another; the last: no way")
