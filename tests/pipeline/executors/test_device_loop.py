"""Windows computed without a word to the host give the bits of a graph of Dask's tasks; here on a CPU."""

from dataclasses import dataclass, replace
from typing import ClassVar
from uuid import uuid4

import numpy as np
import pytest

from fanfold.data.errors import RunError
from fanfold.pipeline import worker as work
from fanfold.pipeline.executors.choose import open_reduction
from fanfold.pipeline.executors.communicator import DisbandedError, Others
from fanfold.pipeline.executors.device_loop import BLOCK, DeviceLoop, Share, suits
from fanfold.pipeline.executors.graph import share
from fanfold.pipeline.fold import FAN_IN
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Meta
from fanfold.pipeline.search import trial
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.episodes import Stream
from fanfold.tasks.models import OwnModel
from tests.pipeline.executors.gangs import in_gangs, nothing_to_tell, of_share
from tests.pipeline.reference import assert_same, run_alone


def nobody():
    """The others of a rank that is alone."""
    return Others(None, 0, 1, lambda: True)


METAS = {
    "chunks that don't divide": Meta(batch=10, chunk=3, lr=3e-3, average=0.9, together=True),
    "fewer chunks than workers": Meta(batch=3, chunk=2, iterations=6, lr=3e-3, schedule="cosine", together=True),
    "folded ahead, one way down": Meta(batch=2 * FAN_IN, chunk=1, lr=0.1, optimizer="sgd", together=True),
}


def side_by_side(recipe, **settings):
    return replace(recipe, meta=replace(recipe.meta, together=True, **settings))


def alone(recipe, state=None):
    """A loop of a rank that is alone, where it stands."""
    state = state or work.initialize(recipe)
    opened, chunks = work.bench(recipe), tuple(recipe.meta.chunks())
    loop = DeviceLoop(recipe, opened, Share(0, 1, chunks, (0,) * len(chunks)), len(state.parameters))
    loop.stand(state.parameters, state)
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
    assert suits(recipe, work.bench(recipe))
    expected = run_alone(recipe, 6)
    loop = alone(recipe)
    with work.at_the_bench(recipe, Stream.TRAIN, 0):
        records = loop.window(nobody(), 0, 2) + loop.window(nobody(), 2, 4)
    parameters, own = loop.standing()
    assert parameters.tobytes() == expected.parameters.tobytes()
    assert_same(State(6, *own, records), expected)


def test_windows_longer_than_a_block_are_one_as_well(recipe):
    recipe = side_by_side(recipe, batch=2, chunk=2)
    loop, other = alone(recipe), alone(recipe)
    with work.at_the_bench(recipe, Stream.TRAIN, 0):
        whole = loop.window(nobody(), 0, BLOCK + 3)
        parts = other.window(nobody(), 0, BLOCK - 1) + other.window(nobody(), BLOCK - 1, 4)
    assert whole == parts
    assert [record.iteration for record in whole] == list(range(BLOCK + 3))
    assert loop.standing()[0].tobytes() == other.standing()[0].tobytes()


@pytest.mark.parametrize("name", METAS)
def test_any_number_of_workers_gives_the_graphs_bits(trio, recipe, name):
    recipe = replace(recipe, meta=METAS[name])
    expected = run_alone(recipe, 5)
    for cluster in (
        replace(trio, reduction="graph"),
        *(in_gangs(trio, **of_share(*range(count))) for count in (1, 2, 3)),
    ):
        state, records = work.initialize(recipe), ()
        with open_reduction(cluster, uuid4().hex[:8], recipe, nothing_to_tell) as reduce:
            for iterations in (3, 2):
                state = reduce(state, iterations)
                records, state = records + state.records, work.without_records(state)
        assert_same(replace(state, records=records), expected)


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
            open_reduction(in_gangs(trio), uuid4().hex[:8], recipe, nothing_to_tell) as reduce,
            pytest.raises(TypeError, match="NoneType"),
        ):
            reduce(work.initialize(recipe), 1)
    finally:
        trio.client.run(mend_it)


def test_a_loss_that_is_not_finite_is_said_as_by_the_graph(trio, recipe):
    wild, errors = side_by_side(recipe, lr=1e30), []
    for cluster in (replace(trio, reduction="graph"), in_gangs(trio, **of_share(0)), in_gangs(trio)):
        with (
            open_reduction(cluster, uuid4().hex[:8], wild, nothing_to_tell) as reduce,
            pytest.raises(RunError, match=r"not finite in iteration \d+, task numbers \d+") as caught,
        ):
            reduce(work.initialize(wild), 4)
        errors.append(str(caught.value))
    assert len(set(errors)) == 1


@dataclass(frozen=True)
class Silent(Maml):
    """An algorithm that does not say in what iterations differ."""

    steady: ClassVar[bool] = False


def test_what_may_change_from_iteration_to_iteration_or_draws_is_left_to_chunks(recipe):
    assert not suits(recipe, work.bench(recipe))
    silent = replace(side_by_side(recipe), algorithm=Silent(inner_lr=0.1))
    assert not suits(silent, work.bench(silent))
    drawing = replace(side_by_side(recipe), model=OwnModel("tests.pipeline.test_worker:Dropping"))
    assert not suits(drawing, work.bench(drawing))
    steady = replace(silent, algorithm=Maml(inner_lr=0.1))
    assert run_alone(silent, 3).parameters.tobytes() == run_alone(steady, 3).parameters.tobytes()


def test_side_by_side_and_one_by_one_agree_closely(recipe):
    """A chunk, as an activation next to nought may fall on either side in float32, and training goes elsewhere then."""
    state = work.initialize(recipe)
    for chunk in recipe.meta.chunks():
        one, other = (work.adapt(of, state, *chunk) for of in (recipe, side_by_side(recipe)))
        assert np.linalg.norm(one.gradient - other.gradient) < 0.02 * np.linalg.norm(one.gradient)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.accuracy == other.accuracy


def test_what_is_left_to_fold_is_known_beforehand():
    chunks = tuple((place, place + 1) for place in range(2 * FAN_IN))
    owners = tuple(share(place, len(chunks), 2) for place in range(len(chunks)))
    assert Share(0, 2, chunks, owners).left() == [(0, FAN_IN), (1, FAN_IN)]
    assert Share(0, 2, ((0, 3), (3, 5)), (0, 1)).left() == [(0, 3), (1, 2)]


@pytest.mark.parametrize("algorithm", [Maml(inner_lr=0.1), ProtoNet()], ids=lambda algorithm: algorithm.name)
def test_test_tasks_are_answered_side_by_side_as_one_by_one(recipe, algorithm):
    recipe = replace(recipe, algorithm=algorithm)
    parameters = work.initialize(recipe).parameters
    population = work.statistics(recipe, parameters)
    for normalization in algorithm.normalizations:
        how = (normalization, parameters, population if normalization == "population" else None, Stream.TEST, 5, 25)
        expected, found = work.test(recipe, *how), work.test(side_by_side(recipe), *how)
        assert (found.guesses == expected.guesses).all()
        np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.confidences, expected.confidences, rtol=1e-4, atol=1e-5)


def test_a_trial_computes_by_a_loop_too_until_nobody_wants_it(recipe):
    recipe = side_by_side(recipe)
    state = trial.compute(recipe, trial.compute(recipe, work.initialize(recipe), 2), 3)
    assert_same(state, run_alone(recipe, 5))

    def unwanted():
        raise trial.UnwantedError

    with pytest.raises(trial.UnwantedError):
        trial.compute(recipe, state, 2, unwanted)
    with pytest.raises(DisbandedError):
        alone(recipe).window(Others(None, 0, 1, lambda: False), 0, 2)
