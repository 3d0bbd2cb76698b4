from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from data.errors import FanfoldError, RunError
from pipeline import work
from pipeline.fold import fold_all
from pipeline.optimizer import adam
from tasks.episodes import EpisodeShape, Stream
from tasks.models import OwnModel
from tests.pipeline.reference import run_alone


def test_a_chunk_depends_on_its_numbers_alone(recipe):
    state = work.initialize(recipe)
    before = work.adapt(recipe, state, 3, 6)
    work.adapt(recipe, state, 0, 3)
    again = work.adapt(recipe, state, 3, 6)
    assert before.gradient.tobytes() == again.gradient.tobytes()
    assert before.tasks == 3
    assert work.adapt(recipe, state, 0, 3).gradient.tobytes() != before.gradient.tobytes()
    assert work.adapt(recipe, replace(state, iteration=1), 3, 6).gradient.tobytes() != before.gradient.tobytes()


class Dropping(nn.Module):
    """A network of one's own that draws random numbers."""

    def __init__(self, ways):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, ways))

    def forward(self, images):
        return self.layers(images)


def test_a_network_that_draws_draws_by_the_chunks_numbers(recipe):
    own = replace(recipe, model=OwnModel("tests.pipeline.test_work:Dropping"))
    state = work.initialize(own)
    before = work.adapt(own, state, 3, 6)
    torch.rand(5)
    work.adapt(own, state, 0, 3)
    assert work.adapt(own, state, 3, 6).gradient.tobytes() == before.gradient.tobytes()
    assert work.adapt(own, state, 3, 6).loss != work.adapt(replace(own, seed=recipe.seed + 1), state, 3, 6).loss


def test_dropout_is_off_in_tests(recipe):
    own = replace(recipe, model=OwnModel("tests.pipeline.test_work:Dropping"), steps=0)
    state = work.initialize(own)
    work.adapt(own, state, 0, 3)  # leaves the network in training mode
    tested = work.test(own, state.parameters, Stream.TEST, 0, 40)
    network = work.bench(own).network
    with work._at_the_bench(own, Stream.TRAIN, 0) as opened:
        tasks = work._tasks(own, opened, Stream.TEST, 0, 40)
        opened.network.module.eval()
        parameters = network.unflatten(torch.tensor(state.parameters))
        right = [network(parameters, query).argmax(1) == tasks.query_labels for query in tasks.query]
    np.testing.assert_allclose(tested, [answers.double().mean() for answers in right])


def test_a_step_goes_by_the_mean_over_the_meta_batch(recipe):
    state = run_alone(recipe, 3)
    total = fold_all([work.adapt(recipe, state, *places) for places in recipe.meta.chunks()])
    after = work.step(recipe, state, total)
    parameters, mean, square = adam(state, total.gradient / np.float32(10), recipe.meta.lr)
    assert after.parameters.tobytes() == parameters.tobytes()
    assert after.mean.tobytes() == mean.tobytes()
    assert after.square.tobytes() == square.tobytes()
    assert after.iteration == 4
    assert after.records[-1].loss == pytest.approx(total.loss / 10)


def test_the_start_depends_on_the_seed_alone(recipe):
    assert work.initialize(recipe).parameters.tobytes() == work.initialize(recipe).parameters.tobytes()
    other = work.initialize(replace(recipe, seed=4))
    assert other.parameters.tobytes() != work.initialize(recipe).parameters.tobytes()


def test_chunks_of_any_size_sum_to_the_meta_batch(recipe):
    state = work.initialize(recipe)
    whole = work.adapt(recipe, state, 0, 10)
    parts = fold_all([work.adapt(recipe, state, *places) for places in recipe.meta.chunks()])
    np.testing.assert_allclose(parts.gradient, whole.gradient, rtol=1e-3, atol=1e-5)
    assert parts.tasks == whole.tasks == 10
    assert parts.accuracy == pytest.approx(whole.accuracy)


def test_training_lowers_the_loss(recipe):
    state = run_alone(recipe, 60)
    losses = [record.loss for record in state.records]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    before = work.test(recipe, work.initialize(recipe).parameters, Stream.TEST, 0, 100)
    after = work.test(recipe, state.parameters, Stream.TEST, 0, 100)
    assert after.mean() > before.mean() + 0.05


def test_what_is_not_finite_names_its_tasks(recipe):
    state = run_alone(recipe, 2)
    broken = replace(state, parameters=np.full_like(state.parameters, np.nan))
    parts = [work.adapt(recipe, broken, *places) for places in recipe.meta.chunks()[1:3]]
    with pytest.raises(RunError, match=r"iteration 3, task numbers 23 to 28:") as caught:
        work.step(recipe, state, fold_all(parts))
    assert caught.value.status == 1


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (EpisodeShape(50, 1, 1), "50 ways, but the split has .* classes"),
        (EpisodeShape(3, 4, 5), "need 9 drawings of each class"),
    ],
)
def test_tasks_that_can_not_be_drawn_are_refused_at_once(recipe, task, message):
    with pytest.raises(FanfoldError, match=message):
        work.check_recipe(replace(recipe, task=task))
