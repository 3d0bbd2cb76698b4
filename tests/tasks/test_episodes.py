import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import FanfoldError
from tasks.episodes import EpisodeShape, Stream, check_episode_shape, draw_episodes

CLASSES = np.array([3, 5, 8, 13, 21, 34, 55, 60])
DRAWINGS = np.full(61, 6)
DRAWINGS[[5, 21]] = 4


def draw(shape, first, last, seed=0, stream=Stream.TRAIN):
    return draw_episodes(seed, stream, first, last, shape, CLASSES, DRAWINGS)


shapes = st.builds(
    EpisodeShape, ways=st.integers(2, 8), shots=st.integers(1, 2), queries=st.integers(1, 2), rotations=st.booleans()
)


@given(shapes, st.integers(0, 2**64 - 1), st.integers(0, 10**12), st.integers(1, 9), st.data())
def test_a_task_is_the_same_whatever_range_it_is_drawn_in(shape, seed, first, count, data):
    whole = draw(shape, first, first + count, seed)
    place = data.draw(st.integers(0, count - 1))
    alone = draw(shape, first + place, first + place + 1, seed)
    for part in ("classes", "rotations", "drawings"):
        np.testing.assert_array_equal(getattr(whole, part)[place], getattr(alone, part)[0])


@given(shapes, st.integers(0, 1000))
def test_classes_and_drawings_are_distinct_and_there(shape, first):
    episodes = draw(shape, first, first + 20)
    assert episodes.classes.shape == (20, shape.ways)
    assert episodes.drawings.shape == (20, shape.ways, shape.shots + shape.queries)
    assert np.isin(episodes.classes, CLASSES).all()
    assert all(len(set(row)) == shape.ways for row in episodes.classes)
    assert (episodes.drawings < DRAWINGS[episodes.classes][..., None]).all()
    assert (episodes.drawings >= 0).all()
    assert all(len(set(row)) == len(row) for task in episodes.drawings for row in task)


def test_streams_and_seeds_share_nothing():
    shape = EpisodeShape(5, 1, 1)
    drawn = {draw(shape, 0, 50, seed, stream).classes.tobytes() for seed in (0, 1, 2**64 - 1) for stream in Stream}
    assert len(drawn) == 9


def test_rotations_change_nothing_else():
    plain, turned = (draw(EpisodeShape(5, 1, 1, rotations), 0, 100) for rotations in (False, True))
    np.testing.assert_array_equal(plain.classes, turned.classes)
    np.testing.assert_array_equal(plain.drawings, turned.drawings)
    assert not plain.rotations.any()
    assert set(turned.rotations.ravel()) == {0, 1, 2, 3}


@settings(deadline=None)
@given(st.integers(0, 3))
def test_draws_are_uniform(seed):
    """Counts of classes, drawings and turns within five standard deviations of a multinomial's."""
    episodes = draw(EpisodeShape(3, 1, 1, True), 0, 8000, seed)
    n = episodes.classes.size
    for values, options in (
        (np.searchsorted(CLASSES, episodes.classes), 8),
        (episodes.rotations, 4),
        (episodes.drawings[DRAWINGS[episodes.classes] == 6], 6),
        (episodes.drawings[DRAWINGS[episodes.classes] == 4], 4),
    ):
        counts, expected = np.bincount(values.ravel(), minlength=options), values.size / options
        assert len(counts) == options
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all(), (counts, n)


@pytest.mark.parametrize(("ways", "shots", "queries"), [(1, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_a_task_must_have_ways_shots_and_queries(ways, shots, queries):
    with pytest.raises(FanfoldError, match="at least"):
        EpisodeShape(ways, shots, queries)


def test_what_can_not_be_drawn_is_said():
    check_episode_shape(Stream.TEST, EpisodeShape(8, 2, 2), CLASSES, DRAWINGS)
    with pytest.raises(FanfoldError, match=r"9 ways.* 8 test classes"):
        check_episode_shape(Stream.TEST, EpisodeShape(9, 1, 1), CLASSES, DRAWINGS)
    with pytest.raises(FanfoldError, match=r"need 5 drawings.* only 4"):
        check_episode_shape(Stream.TEST, EpisodeShape(5, 3, 2), CLASSES, DRAWINGS)
