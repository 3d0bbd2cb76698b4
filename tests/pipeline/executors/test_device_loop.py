"""Windows computed without a word to the host give the bits of a graph of Dask's tasks; here on a CPU."""

import gc
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import numpy as np
import pytest

from fanfold.data.errors import RunError
from fanfold.pipeline import worker
from fanfold.pipeline.executors import device_loop, nccl
from fanfold.pipeline.executors.base import Window
from fanfold.pipeline.executors.choose import open_executor
from fanfold.pipeline.executors.communicator import DisbandedError
from fanfold.pipeline.executors.device_loop import DeviceLoop, suits
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.executors.segments import Share
from fanfold.pipeline.executors.stopwatch import Stopwatch
from fanfold.pipeline.fold import FAN_IN
from fanfold.pipeline.optimizer import Vectors
from fanfold.pipeline.recipe import Meta
from fanfold.pipeline.search.trial import UnwantedError
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.episodes import Stream
from fanfold.tasks.models import PluginModel
from tests.pipeline.executors.gangs import in_gangs, nothing_to_tell, of_share
from tests.pipeline.reference import alone, assert_same


def wanted():
    """Somebody waits for the window."""


class Mark:
    """A place that the device comes to, or never."""

    def __init__(self, reached):
        self.reached = reached

    def query(self):
        return self.reached


class Neighbour:
    """The other rank of a gang, as far as this one launches exchanges with it."""

    ranks, exchanges = 2, 0

    def exchange(self, rows, found, counts):
        self.exchanges += 1

    def gather_into(self, found, own):
        pass


@pytest.mark.parametrize("answers", [0, 5, 40])
def test_a_device_that_waits_for_a_lost_rank_keeps_its_host_for_a_bounded_time(recipe, monkeypatch, answers):
    recipe, communicator, sent, asked = side_by_side(recipe, batch=2, chunk=1), Neighbour(), [], []
    monkeypatch.setattr(device_loop, "AHEAD", 8)
    monkeypatch.setattr(device_loop, "BLOCK", 32)
    monkeypatch.setattr(device_loop, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(DeviceLoop, "_mark", lambda self: Mark(communicator.exchanges <= answers))
    send = DeviceLoop._send
    monkeypatch.setattr(
        DeviceLoop, "_send", lambda self, *given: sent.append(communicator.exchanges) or send(self, *given)
    )

    def lost():  # which the driver notices late
        asked.append(communicator.exchanges)
        if len([exchanges for exchanges in asked if exchanges > answers]) > 20:
            raise DisbandedError

    state = worker.initialize(recipe)
    loop = DeviceLoop(recipe, Share(0, 2, tuple(recipe.meta.chunks())), len(state.parameters))
    half = loop._length
    loop.start(
        np.resize(state.parameters, 2 * half),
        replace(state, **{name: np.zeros(half, np.float32) for name in Vectors._fields}),
    )
    began = time.monotonic()
    with pytest.raises(DisbandedError):
        loop.window(96, lost, Stopwatch(), communicator)
    assert time.monotonic() - began < 10
    assert communicator.exchanges <= answers + 2 * 8  # the host is never far ahead
    assert all(exchanges <= answers for exchanges in sent)  # and copies to no device that is stuck


def test_a_group_that_can_not_be_called_off_keeps_nobody(caplog):
    class Stuck:
        def abort(self):
            time.sleep(30)

    began = time.monotonic()
    nccl.abort(Stuck(), 0.05)
    assert time.monotonic() - began < 5
    assert "doesn't let go" in caplog.text


METAS = {
    "chunks that don't divide": Meta(batch=10, chunk=3, lr=3e-3, average=0.9, together=True),
    "fewer chunks than workers": Meta(batch=3, chunk=2, iterations=6, lr=3e-3, schedule="cosine", together=True),
    "folded ahead, one way down": Meta(batch=2 * FAN_IN, chunk=1, lr=0.1, optimizer="sgd", together=True),
}


def side_by_side(recipe, **settings):
    return replace(recipe, meta=replace(recipe.meta, together=True, **settings))


def started(recipe):
    """A loop of a rank that is alone, at the start."""
    state = worker.initialize(recipe)
    loop = DeviceLoop(recipe, Share(0, 1, tuple(recipe.meta.chunks())), len(state.parameters))
    loop.start(state.parameters, state)
    return loop


@pytest.mark.parametrize(
    "algorithm",
    [
        Maml(inner_lr=0.1),
        Maml(inner_lr=0.1, first_order=True),
        MamlPlusPlus(inner_steps=2, multi_step=4, first_order=1),  # three phases, with windows that end in the second
        ProtoNet(),
        Reptile(),
    ],
    ids=lambda algorithm: algorithm.name,
)
def test_a_loop_gives_the_bits_and_records_of_chunks_folded_and_stepped_on_the_host(recipe, algorithm):
    recipe = replace(side_by_side(recipe, average=0.5), algorithm=algorithm)
    assert suits(recipe, worker.open_context(recipe))
    expected, loop = alone(recipe, 6), started(recipe)
    records = loop.window(2, wanted, Stopwatch()) + loop.window(4, wanted, Stopwatch())
    parameters, own = loop.standing
    assert parameters.tobytes() == expected.state.parameters.tobytes()
    assert_same(Window(own, records), expected)


def test_windows_longer_than_a_block_are_one_as_well(recipe, monkeypatch):
    block = 6
    monkeypatch.setattr(device_loop, "BLOCK", block)
    monkeypatch.setattr(device_loop, "AHEAD", 2)
    recipe = side_by_side(recipe, batch=2, chunk=2, schedule="cosine")
    loop, other = started(recipe), started(recipe)
    whole = loop.window(block + 3, wanted, Stopwatch())
    parts = other.window(block - 1, wanted, Stopwatch()) + other.window(4, wanted, Stopwatch())
    assert whole == parts
    assert [record.iteration for record in whole] == list(range(block + 3))
    assert loop.standing[0].tobytes() == other.standing[0].tobytes()


@pytest.mark.parametrize("name", METAS)
def test_any_number_of_workers_gives_the_same_bits(trio, recipe, name):
    recipe = replace(recipe, meta=METAS[name])
    expected = alone(recipe, 5)
    for cluster in (
        replace(trio, reduction="graph"),
        *(in_gangs(trio, **of_share(*range(count))) for count in (1, 2, 3)),
    ):
        with open_executor(cluster, recipe, uuid4().hex[:8], nothing_to_tell) as executor:
            first = executor.window(worker.initialize(recipe), 3)
            last = executor.window(first.state, 2)
        assert_same(Window(last.state, first.records + last.records), expected)


def test_what_was_computed_by_a_loop_is_so(trio, recipe):
    """Breaking the loop must break the runs above: they go through it."""
    recipe = side_by_side(recipe)

    def break_it():
        DeviceLoop.real, DeviceLoop.window = DeviceLoop.window, None

    def mend_it():
        DeviceLoop.window = DeviceLoop.real

    trio.client.run(break_it)
    try:
        with (
            open_executor(in_gangs(trio), recipe, uuid4().hex[:8], nothing_to_tell) as executor,
            pytest.raises(TypeError, match="NoneType"),
        ):
            executor.window(worker.initialize(recipe), 1)
    finally:
        trio.client.run(mend_it)


def test_a_loss_that_is_not_finite_is_said_as_by_the_graph(trio, recipe):
    wild, errors = side_by_side(recipe, lr=1e30), []
    for cluster in (replace(trio, reduction="graph"), in_gangs(trio, **of_share(0)), in_gangs(trio)):
        with (
            open_executor(cluster, wild, uuid4().hex[:8], nothing_to_tell) as executor,
            pytest.raises(RunError, match=r"not finite in iteration \d+, task numbers \d+") as caught,
        ):
            executor.window(worker.initialize(wild), 4)
        errors.append(str(caught.value))
    assert len(set(errors)) == 1


@dataclass(frozen=True)
class Silent(Maml):
    """An algorithm that does not say in what iterations differ."""

    steady = False


def test_what_may_change_from_iteration_to_iteration_or_draws_is_left_to_chunks(recipe):
    assert not suits(recipe, worker.open_context(recipe))
    silent = replace(side_by_side(recipe), algorithm=Silent(inner_lr=0.1))
    assert not suits(silent, worker.open_context(silent))
    drawing = replace(side_by_side(recipe), model=PluginModel("tests.pipeline.test_worker:Dropping"))
    assert not suits(drawing, worker.open_context(drawing))
    steady = replace(silent, algorithm=Maml(inner_lr=0.1))
    assert alone(silent, 3).state.parameters.tobytes() == alone(steady, 3).state.parameters.tobytes()


def test_side_by_side_and_one_by_one_agree_closely(recipe):
    """A chunk, as an activation next to nought may fall on either side in float32, and training goes elsewhere then."""
    state = worker.initialize(recipe)
    for chunk in recipe.meta.chunks():
        one, other = (worker.adapt(of, state, *chunk) for of in (recipe, side_by_side(recipe)))
        assert np.linalg.norm(one.gradient - other.gradient) < 0.02 * np.linalg.norm(one.gradient)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.accuracy == other.accuracy


@pytest.mark.parametrize("algorithm", [Maml(inner_lr=0.1), ProtoNet()], ids=lambda algorithm: algorithm.name)
def test_test_tasks_are_answered_side_by_side_as_one_by_one(recipe, algorithm):
    recipe = replace(recipe, algorithm=algorithm)
    parameters = worker.initialize(recipe).parameters
    population = worker.statistics(recipe, parameters)
    for normalization in algorithm.normalizations:
        how = (normalization, Stream.TEST, parameters, population if normalization == "population" else None, 5, 25)
        expected, found = worker.test(recipe, *how), worker.test(side_by_side(recipe), *how)
        assert (found.labels == expected.labels).all()
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.confidences, expected.confidences, rtol=1e-4, atol=1e-5)


def test_the_local_executor_computes_by_a_loop_until_nobody_wants_it(recipe):
    recipe = side_by_side(recipe)
    executor = LocalExecutor(recipe)
    first = executor.window(worker.initialize(recipe), 2)
    last = executor.window(first.state, 3)
    assert_same(Window(last.state, first.records + last.records), alone(recipe, 5))

    def unwanted():
        raise UnwantedError

    with pytest.raises(UnwantedError):
        LocalExecutor(recipe, unwanted).window(last.state, 2)
    with pytest.raises(UnwantedError):
        started(recipe).window(2, unwanted, Stopwatch())


@contextmanager
def captures_counted(monkeypatch):
    """Weak references to all `Captured` that are made, each of which has graphs and their memory on a GPU."""
    made, real = [], device_loop.Captured

    def make(*given):
        captured = real(*given)
        made.append(weakref.ref(captured))
        return captured

    for module in (device_loop, worker):
        monkeypatch.setattr(module, "Captured", make)
    gc.collect()
    gc.disable()  # Python looks for circles when it likes, whatever they hold of a GPU's memory
    try:
        yield made
    finally:
        gc.enable()


def alive(references):
    return sum(reference() is not None for reference in references)


def test_the_graphs_of_a_searchs_ended_trials_are_let_go(recipe, monkeypatch):
    """Trials come back segment by segment: those of the last two are kept, which a GPU's memory has to hold."""
    trials = [replace(side_by_side(recipe), seed=seed) for seed in range(4)]
    with captures_counted(monkeypatch) as made:
        for trial in trials:
            state = LocalExecutor(trial).window(worker.initialize(trial), 1).state
            for _ in range(2):
                worker.adapt(trial, state, 0, 3)
                worker.test(trial, "batch", Stream.VALIDATION, state.parameters, None, 0, 2)
        each = len(made) // len(trials)  # the loop's iteration and step, a chunk's gradient, predictions
        assert each == 4
        assert alive(made) == 2 * each
        for trial in trials[-2:]:
            LocalExecutor(trial).window(worker.initialize(trial), 1)
        assert len(made) == 4 * each  # nothing is captured anew
