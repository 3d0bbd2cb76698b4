from dataclasses import replace

import numpy as np
import pytest

from data.errors import FanfoldError, RunError
from pipeline import work
from pipeline.fold import fold_all
from tasks.episodes import EpisodeShape, Stream
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
