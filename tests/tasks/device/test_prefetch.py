import threading
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.tasks.device.prefetch import Prefetch, RankTasks, TaskSource, draw_codes
from fanfold.tasks.device.resident import encode
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_episodes

SHAPE = EpisodeShape(5, 1, 2, True, True)
COUNTS = np.resize([5, 6], 40)
SOURCE = TaskSource(3, Stream.TRAIN, SHAPE, np.arange(4, 40), COUNTS, np.cumsum(COUNTS) - COUNTS)
DRAW = partial(draw_codes, SOURCE)
FIRST, SECOND = RankTasks(64, 10, 32, ((8, 16), (16, 24))), RankTasks(384, 10, 32, ((8, 16), (16, 24)))


class Recorded:
    """Draws, and remembers what, and in which thread."""

    def __init__(self):
        self.drawn = []

    def __call__(self, numbers):
        self.drawn.append((numbers, threading.get_ident()))
        return DRAW(numbers)


@st.composite
def parts_of_windows(draw):
    batch = draw(st.integers(1, 12))
    cuts = sorted(draw(st.sets(st.integers(0, batch))))
    chunks = [chunk for chunk in pairwise(cuts) if draw(st.booleans())]
    return RankTasks(draw(st.integers(0, 10**9)), draw(st.integers(1, 5)), batch, tuple(chunks))


@settings(deadline=None)
@given(parts_of_windows())
def test_a_ranks_tasks_are_those_in_its_places_of_every_meta_batch(numbers):
    first, iterations, batch = numbers.first, numbers.iterations, numbers.batch
    window = draw_episodes(3, Stream.TRAIN, first, first + iterations * batch, SHAPE, SOURCE.classes, SOURCE.counts)
    whole = encode(window, SOURCE.first).reshape(iterations, batch, 5, 3)
    own = [place for chunk in numbers.places for place in range(*chunk)]
    found = DRAW(numbers)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, whole[:, own])


@pytest.mark.parametrize(
    ("places", "ranges"),
    [
        (((0, 8), (8, 16)), [(32, 80)]),
        (((0, 4), (4, 8)), [(32, 40), (48, 56), (64, 72)]),
        (((0, 4), (12, 16)), [(32, 36), (44, 52), (60, 68), (76, 80)]),
        ((), []),
    ],
)
def test_neighbouring_tasks_are_drawn_as_one_range(places, ranges):
    assert RankTasks(32, 3, 16, places).ranges() == ranges


def test_what_was_drawn_ahead_is_taken():
    draw = Recorded()
    tasks = Prefetch(draw)
    tasks.ahead(FIRST)
    np.testing.assert_array_equal(tasks.take(FIRST), DRAW(FIRST))
    assert [numbers for numbers, _ in draw.drawn] == [FIRST]
    assert draw.drawn[0][1] != threading.get_ident()


def test_what_was_drawn_ahead_is_taken_once():
    draw = Recorded()
    tasks = Prefetch(draw)
    tasks.ahead(FIRST)
    np.testing.assert_array_equal(tasks.take(FIRST), tasks.take(FIRST))
    assert [numbers for numbers, _ in draw.drawn] == [FIRST, FIRST]
    assert draw.drawn[1][1] == threading.get_ident()


def test_other_tasks_than_those_drawn_ahead_are_drawn_anew():
    draw = Recorded()
    tasks = Prefetch(draw)
    tasks.ahead(FIRST)
    np.testing.assert_array_equal(tasks.take(SECOND), DRAW(SECOND))
    tasks.ahead(FIRST)
    tasks.ahead(SECOND)
    np.testing.assert_array_equal(tasks.take(SECOND), DRAW(SECOND))


def test_drawing_ahead_keeps_nobody_waiting():
    go_on = threading.Event()

    def draw(numbers):
        if threading.current_thread() is not threading.main_thread():
            assert go_on.wait(10)
        return DRAW(numbers)

    tasks = Prefetch(draw)
    tasks.ahead(FIRST)
    np.testing.assert_array_equal(tasks.take(SECOND), DRAW(SECOND))  # while the other is still at it
    tasks.ahead(SECOND)
    go_on.set()
    np.testing.assert_array_equal(tasks.take(SECOND), DRAW(SECOND))


def test_what_goes_wrong_ahead_is_raised_where_it_is_taken():
    def draw(numbers):
        if numbers == FIRST:
            raise ValueError("no such tasks")
        return DRAW(numbers)

    tasks = Prefetch(draw)
    tasks.ahead(FIRST)
    with pytest.raises(ValueError, match="no such tasks"):
        tasks.take(FIRST)
    tasks.ahead(FIRST)
    np.testing.assert_array_equal(tasks.take(SECOND), DRAW(SECOND))


def test_the_thread_ends_with_what_it_draws_for():
    before = set(threading.enumerate())
    tasks = Prefetch(DRAW)
    tasks.ahead(FIRST)
    tasks.take(FIRST)
    (thread,) = set(threading.enumerate()) - before
    del tasks
    thread.join(10)
    assert not thread.is_alive()
