from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from fanfold.data.errors import FanfoldError, RunError
from fanfold.data.store import write_store
from fanfold.pipeline import worker
from fanfold.pipeline.fold import fold_all
from fanfold.pipeline.optimizer import Record, advance, step
from fanfold.tasks.algorithm import sum_of_gradients
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.batch import gather_tasks
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_episodes
from fanfold.tasks.models import PluginModel
from fanfold.tasks.network import with_statistics
from fanfold.tasks.predict import predict
from tests.pipeline.conftest import PatternSource
from tests.pipeline.reference import alone


def test_a_chunk_depends_on_its_numbers_alone(recipe):
    state = worker.initialize(recipe)
    before = worker.adapt(recipe, state, 3, 6)
    worker.adapt(recipe, state, 0, 3)
    again = worker.adapt(recipe, state, 3, 6)
    assert before.gradient.tobytes() == again.gradient.tobytes()
    assert before.tasks == 3
    assert worker.adapt(recipe, state, 0, 3).gradient.tobytes() != before.gradient.tobytes()
    assert worker.adapt(recipe, replace(state, iteration=1), 3, 6).gradient.tobytes() != before.gradient.tobytes()


class Dropping(nn.Module):
    """A network of one's own that draws random numbers."""

    def __init__(self, ways):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, ways))

    def forward(self, images):
        return self.layers(images)


def test_fewer_bits_are_left_to_pytorch_where_a_network_has_no_products_of_its_own(recipe):
    """A stack's are of the configured precision; small ones beside them, of covariances and heads, stay float32."""
    fast = replace(recipe, meta=replace(recipe.meta, precision="tf32", together=True))
    own = replace(fast, model=PluginModel("tests.pipeline.test_worker:Dropping"))
    for chosen, allowed in ((fast, False), (own, True), (replace(own, meta=recipe.meta), False)):
        with worker.in_context(chosen, Stream.TRAIN, 0):
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed


def test_a_network_that_draws_draws_by_the_chunks_numbers(recipe):
    own = replace(recipe, model=PluginModel("tests.pipeline.test_worker:Dropping"))
    state = worker.initialize(own)
    before = worker.adapt(own, state, 3, 6)
    torch.rand(5)
    worker.adapt(own, state, 0, 3)
    assert worker.adapt(own, state, 3, 6).gradient.tobytes() == before.gradient.tobytes()
    assert worker.adapt(own, state, 3, 6).loss != worker.adapt(replace(own, seed=recipe.seed + 1), state, 3, 6).loss


def test_a_network_that_draws_draws_the_same_in_a_workers_first_chunk(recipe):
    """A worker builds the network when its first chunk comes; building it must take none of the chunk's numbers."""
    own = replace(recipe, model=PluginModel("tests.pipeline.test_worker:Dropping"))
    state = worker.initialize(own)
    later = worker.adapt(own, state, 3, 6)
    worker._network.cache_clear()
    assert worker.adapt(own, state, 3, 6).gradient.tobytes() == later.gradient.tobytes()


@dataclass(frozen=True)
class Deciding(ProtoNet):
    """An algorithm of one's own whose way depends on the numbers it sees, which `torch.vmap` can't follow."""

    vectorizes = False

    def meta_gradient(self, network, parameters, iteration, tasks):
        def judge(theta, support, query):
            embedding = network(theta, query if support.sum() > 0 else support)
            return embedding.square().mean(), embedding, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, judge)


def test_an_algorithm_of_ones_own_says_that_its_tasks_are_computed_one_by_one(recipe):
    recipe = replace(recipe, algorithm=Deciding())
    state = worker.initialize(recipe)
    one_by_one, asked = (replace(recipe, meta=replace(recipe.meta, together=together)) for together in (False, True))
    expected, found = (worker.adapt(how, state, 0, 3) for how in (one_by_one, asked))
    # Two ways that round otherwise, and an activation next to nought may fall on the other side.
    assert np.linalg.norm(found.gradient - expected.gradient) < 0.02 * np.linalg.norm(expected.gradient)
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)


def test_dropout_is_off_in_tests(recipe):
    own = replace(recipe, model=PluginModel("tests.pipeline.test_worker:Dropping"), steps=0)
    state = worker.initialize(own)
    worker.adapt(own, state, 0, 3)  # leaves the network in training mode
    tested = worker.test(own, "batch", Stream.TEST, state.parameters, None, 0, 40).accuracies
    network = worker.open_context(own).network
    with worker.in_context(own, Stream.TRAIN, 0) as opened:
        tasks = worker._tasks(own, opened, Stream.TEST, 0, 40)
        opened.network.module.eval()
        parameters = network.unflatten(torch.tensor(state.parameters))
        right = [network(parameters, query).argmax(1) == tasks.query_labels for query in tasks.query]
    np.testing.assert_allclose(tested, [answers.double().mean() for answers in right])


def test_a_step_goes_by_the_mean_over_the_meta_batch(recipe):
    state = alone(recipe, 3).state
    total = fold_all([worker.adapt(recipe, state, *places) for places in recipe.meta.chunks()])
    after, record = step(recipe, state, total)
    expected = advance(state, total.gradient / np.float32(10), recipe.meta)
    assert after.equals(expected)
    assert after.iteration == 4
    assert record == Record(3, pytest.approx(total.loss / 10), pytest.approx(total.accuracy / 10))


def test_the_start_depends_on_the_seed_alone(recipe):
    assert worker.initialize(recipe).parameters.tobytes() == worker.initialize(recipe).parameters.tobytes()
    other = worker.initialize(replace(recipe, seed=4))
    assert other.parameters.tobytes() != worker.initialize(recipe).parameters.tobytes()


def test_chunks_of_any_size_sum_to_the_meta_batch(recipe):
    state = worker.initialize(recipe)
    whole = worker.adapt(recipe, state, 0, 10)
    parts = fold_all([worker.adapt(recipe, state, *places) for places in recipe.meta.chunks()])
    # Other parts round otherwise, and an activation next to nought may fall on the other side; a task is a tenth.
    off = np.linalg.norm(parts.gradient - whole.gradient) / np.linalg.norm(whole.gradient)
    assert off < 0.01
    assert parts.tasks == whole.tasks == 10
    assert parts.accuracy == pytest.approx(whole.accuracy)


def test_training_lowers_the_loss(recipe):
    window = alone(recipe, 60)
    state, losses = window.state, [record.loss for record in window.records]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    before = worker.test(recipe, "batch", Stream.TEST, worker.initialize(recipe).parameters, None, 0, 100).accuracies
    after = worker.test(recipe, "batch", Stream.TEST, state.parameters, None, 0, 100).accuracies
    assert after.mean() > before.mean() + 0.05


def test_what_is_not_finite_names_its_tasks(recipe):
    state = alone(recipe, 2).state
    broken = replace(state, parameters=np.full_like(state.parameters, np.nan))
    parts = [worker.adapt(recipe, broken, *places) for places in recipe.meta.chunks()[1:3]]
    with pytest.raises(RunError, match=r"iteration 3, task numbers 23 to 28:") as caught:
        step(recipe, state, fold_all(parts))
    assert caught.value.status == 1


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (EpisodeShape(50, 1, 1), "`task.ways` must be at most 12, .* classes of the split, not 50"),
        (EpisodeShape(3, 4, 5), "`task.shots` and `task.queries` must add up to at most 8, not to 9"),
    ],
)
def test_tasks_that_can_not_be_drawn_are_refused_at_once(recipe, task, message):
    with pytest.raises(FanfoldError, match=message):
        worker.check_recipe(replace(recipe, task=task))


class Narrow(PatternSource):
    """Images higher than wide."""

    def read(self, index, first, last):
        return [picture[..., :12] for picture in super().read(index, first, last)]


def test_quarter_turns_of_images_that_are_not_square_are_refused_at_once(recipe, tmp_path):
    write_store(tmp_path / "narrow.zarr", Narrow(), progress=False)
    narrow = replace(recipe, store=str(tmp_path / "narrow.zarr"))
    with pytest.raises(FanfoldError, match=r"16 × 12 pixels.*set `train.rotations` and `task.rotations` to false"):
        worker.check_recipe(narrow)
    worker.check_recipe(replace(narrow, train=EpisodeShape(3, 1, 2)))


def test_a_step_follows_the_recipe(recipe):
    """The optimizer, its schedule and the average: all of them by the iteration's number."""
    meta = replace(recipe.meta, optimizer="sgd", schedule="linear", lr=0.5, average=0.2)
    recipe = replace(recipe, meta=meta)
    state = replace(worker.initialize(recipe), iteration=5)
    total = fold_all([worker.adapt(recipe, state, *places) for places in meta.chunks()])
    after, _ = step(recipe, state, total)
    expected = state.parameters - 0.5 * (1 - 5 / 20) * total.gradient / 10
    np.testing.assert_allclose(after.parameters, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(after.average, 0.2 * state.average + 0.8 * after.parameters, rtol=1e-5, atol=1e-7)


def test_the_algorithm_is_told_the_iteration(recipe):
    """MAML++ weighs its losses by it: after the first iterations only the last step's counts."""
    moving, still = (replace(recipe, algorithm=MamlPlusPlus(inner_steps=2, multi_step=n)) for n in (4, 0))
    early, late = (replace(worker.initialize(moving), iteration=n) for n in (0, 4))
    assert worker.adapt(moving, late, 0, 3).gradient.tobytes() == worker.adapt(still, late, 0, 3).gradient.tobytes()
    assert worker.adapt(moving, early, 0, 3).gradient.tobytes() != worker.adapt(still, early, 0, 3).gradient.tobytes()


def test_metric_learners_train_with_other_ways_than_they_are_tested_with(recipe):
    recipe = replace(recipe, algorithm=ProtoNet(), train=EpisodeShape(6, 1, 2, True), task=EpisodeShape(3, 1, 2))
    bound = worker.check_recipe(recipe)
    assert bound.fingerprint is not None
    state = alone(bound, 2).state
    shapes = {name for name in worker.open_context(bound).network.shapes if name.startswith("head.")}
    assert not shapes
    population = worker.statistics(bound, state.parameters)
    assert worker.test(bound, "population", Stream.TEST, state.parameters, population, 0, 4).accuracies.shape == (4,)


@pytest.mark.parametrize("algorithm", [ProtoNet(), Matching()], ids=lambda algorithm: algorithm.name)
def test_the_populations_statistics_are_those_of_a_thousand_training_images(recipe, algorithm):
    """The first layer's by hand; images are of training classes, and of tasks that are never trained on."""
    recipe = replace(recipe, algorithm=algorithm)
    state = alone(recipe, 2).state
    found = worker.statistics(recipe, state.parameters)
    opened = worker.open_context(recipe)
    count = 112  # tasks of nine images: the fewest that make a thousand
    counts = opened.images.counts
    episodes = draw_episodes(recipe.seed, 3, 0, count, recipe.train, opened.split.train, counts)
    tasks = gather_tasks(episodes, recipe.train, opened.images)
    images = torch.cat([tasks.support.flatten(0, 1), tasks.query.flatten(0, 1)])
    assert len(images) == 1008
    (first, weight), *_ = opened.network.own(torch.tensor(state.parameters)).items()
    assert first == "features.0.0.weight"
    hidden = torch.nn.functional.conv2d(images, weight, stride=2, padding=1).double()
    np.testing.assert_allclose(found["features.0.1.running_mean"], hidden.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["features.0.1.running_var"], hidden.var((0, 2, 3)), rtol=1e-4)
    assert len(found) == 8
    assert all(value.dtype == np.float32 for value in found.values())
    again = worker.statistics(recipe, state.parameters)
    assert all(again[name].tobytes() == value.tobytes() for name, value in found.items())


METRIC_LEARNERS = {
    "protonet": ProtoNet(),
    "matching": Matching(),
    "matching euclidean": Matching(similarity="euclidean"),
    "matching context": Matching(full_context=True),
}


@pytest.mark.parametrize("algorithm", METRIC_LEARNERS.values(), ids=METRIC_LEARNERS.keys())
def test_an_inductive_test_is_the_same_in_any_chunks(recipe, algorithm):
    """The statistics are the population's, so a task's accuracy is its own; the shared network is left as it was."""
    recipe = replace(recipe, algorithm=algorithm)
    state = alone(recipe, 2).state
    population = worker.statistics(recipe, state.parameters)
    whole = worker.test(recipe, "population", Stream.TEST, state.parameters, population, 0, 12).accuracies
    with worker.in_context(recipe, Stream.TEST, 0) as opened:
        tasks = worker._tasks(recipe, opened, Stream.TEST, 0, 12)
        vector, statistics = torch.tensor(state.parameters), {name: torch.tensor(v) for name, v in population.items()}
        still = with_statistics(opened.network, statistics)
        plain = predict(recipe.algorithm, still, vector, tasks, None, "population").accuracies
    np.testing.assert_allclose(whole, plain)
    parts = [
        worker.test(recipe, "population", Stream.TEST, state.parameters, population, n, n + 4).accuracies
        for n in (0, 4, 8)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert worker.open_context(recipe).network.normalizes_by_batch
    other = {name: value + 1 for name, value in population.items()}
    assert not np.array_equal(
        whole, worker.test(recipe, "population", Stream.TEST, state.parameters, other, 0, 12).accuracies
    )


def test_a_network_without_linear_head_is_refused_by_anil_at_the_start(recipe):
    own = replace(recipe, algorithm=Anil(), model=PluginModel("tests.tasks.reference:Headless"))
    with pytest.raises(FanfoldError, match=r"must end in an nn\.Linear"):
        worker.initialize(own)
