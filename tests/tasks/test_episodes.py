import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.data.errors import FanfoldError
from fanfold.tasks.episodes import (
    EpisodeShape,
    Stream,
    _without_replacement,
    check_counts,
    check_episode_shape,
    check_episode_shapes,
    draw_episodes,
    draw_ranges,
    large_enough,
)

CLASSES = np.array([3, 5, 8, 13, 21, 34, 55, 60])
DRAWINGS = np.full(61, 6)
DRAWINGS[[5, 21]] = 4


def draw(shape, first, last, seed=0, stream=Stream.TRAIN):
    return draw_episodes(seed, stream, first, last, shape, CLASSES, DRAWINGS)


shapes = st.builds(
    EpisodeShape,
    ways=st.integers(2, 8),
    shots=st.integers(1, 2),
    queries=st.integers(1, 2),
    rotations=st.booleans(),
    reflections=st.booleans(),
)


@given(shapes, st.integers(0, 2**64 - 1), st.integers(0, 10**12), st.integers(1, 9), st.data())
def test_a_task_is_the_same_whatever_range_it_is_drawn_in(shape, seed, first, count, data):
    whole = draw(shape, first, first + count, seed)
    place = data.draw(st.integers(0, count - 1))
    alone = draw(shape, first + place, first + place + 1, seed)
    for part in ("classes", "rotations", "reflections", "pictures"):
        np.testing.assert_array_equal(getattr(whole, part)[place], getattr(alone, part)[0])


@given(shapes, st.integers(0, 1000))
def test_classes_and_drawings_are_distinct_and_there(shape, first):
    episodes = draw(shape, first, first + 20)
    assert episodes.classes.shape == (20, shape.ways)
    assert episodes.pictures.shape == (20, shape.ways, shape.shots + shape.queries)
    assert np.isin(episodes.classes, CLASSES).all()
    assert all(len(set(row)) == shape.ways for row in episodes.classes)
    assert (episodes.pictures < DRAWINGS[episodes.classes][..., None]).all()
    assert (episodes.pictures >= 0).all()
    assert all(len(set(row)) == len(row) for task in episodes.pictures for row in task)


def test_streams_and_seeds_share_nothing():
    shape = EpisodeShape(5, 1, 1)
    drawn = {draw(shape, 0, 50, seed, stream).classes.tobytes() for seed in (0, 1, 2**64 - 1) for stream in Stream}
    assert len(drawn) == 3 * len(Stream)


def test_rotations_change_nothing_else():
    plain, turned = (draw(EpisodeShape(5, 1, 1, rotations), 0, 100) for rotations in (False, True))
    np.testing.assert_array_equal(plain.classes, turned.classes)
    np.testing.assert_array_equal(plain.pictures, turned.pictures)
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
        (episodes.pictures[DRAWINGS[episodes.classes] == 6], 6),
        (episodes.pictures[DRAWINGS[episodes.classes] == 4], 4),
    ):
        counts, expected = np.bincount(values.ravel(), minlength=options), values.size / options
        assert len(counts) == options
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all(), (counts, n)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ways": 1}, "`task.ways` must be at least 2, not 1"),
        ({"shots": 0}, "`task.shots` must be at least 1, not 0"),
        ({"queries": 0}, "`task.queries` must be at least 1, not 0"),
    ],
)
def test_a_task_must_have_ways_shots_and_queries(wrong, message):
    with pytest.raises(FanfoldError, match=message):
        EpisodeShape(**wrong)


def test_counts_of_training_tasks_may_be_left_open():
    check_counts("train", {"ways": None, "shots": 1})
    with pytest.raises(FanfoldError, match=r"`train\.ways` must be at least 2, not 1"):
        check_counts("train", {"ways": 1})


def test_what_can_not_be_drawn_is_said():
    check_episode_shape(Stream.TEST, EpisodeShape(8, 2, 2), CLASSES, DRAWINGS)
    with pytest.raises(FanfoldError, match=r"`task.ways` must be at most 8, .* test classes.*, not 9"):
        check_episode_shape(Stream.TEST, EpisodeShape(9, 1, 1), CLASSES, DRAWINGS)
    with pytest.raises(FanfoldError, match=r"`train.ways` must be at most 8, .* train classes"):
        check_episode_shape(Stream.TRAIN, EpisodeShape(9, 1, 1), CLASSES, DRAWINGS)
    with pytest.raises(FanfoldError, match=r"^Add `task.ways=4`, the number of validation classes .* 5 are too many; "):
        check_episode_shape(Stream.VALIDATION, EpisodeShape(5, 1, 1), CLASSES[:4], DRAWINGS)
    large = int((DRAWINGS[CLASSES] >= 5).sum())
    check_episode_shape(Stream.TEST, EpisodeShape(large, 3, 2), CLASSES, DRAWINGS)  # of the larger classes alone
    assert (DRAWINGS[large_enough(EpisodeShape(2, 3, 2), CLASSES, DRAWINGS)] >= 5).all()
    with pytest.raises(
        FanfoldError, match=r"`task.shots` and `task.queries` must add up to at most 4, not to 5"
    ) as caught:
        check_episode_shape(Stream.TEST, EpisodeShape(large + 1, 3, 2), CLASSES, DRAWINGS)
    assert f", or `task.ways` be at most {large}: only {large} of" in str(caught.value)
    with pytest.raises(FanfoldError, match=r"^None of the 8 test classes has 2 pictures or more, .*`classify`.$"):
        check_episode_shape(Stream.TEST, EpisodeShape(2, 1, 1), CLASSES, np.ones_like(DRAWINGS))


def test_counts_that_do_not_fit_are_mended_at_once():
    """As of a configuration that was made for a larger data set."""
    task, train = EpisodeShape(9, 5, 5), EpisodeShape(60, 5, 5)
    classes = {Stream.VALIDATION: CLASSES, Stream.TEST: CLASSES, Stream.TRAIN: CLASSES}
    said = []
    for shapes in (
        {Stream.VALIDATION: task, Stream.TEST: task, Stream.TRAIN: train},
        {Stream.TEST: task},
        {Stream.TEST: EpisodeShape(9, 1, 1), Stream.TRAIN: EpisodeShape(9, 1, 1)},
    ):
        with pytest.raises(FanfoldError, match=r"^`task.ways` must be at most 8, .*, not 9\.") as caught:
            check_episode_shapes(shapes, classes, DRAWINGS)
        said.append(str(caught.value).partition("not 9.")[2])
    tested = " Other counts don't fit, either: `task.ways=auto` and `task.queries=auto`"
    assert said[0] == f"{tested}, `train.ways=many` and `train.queries=auto` follow the data."
    assert said[1:] == [f"{tested} follow the data.", ""]


PINNED = [
    (0, Stream.TRAIN, 0, [[3, 8, 5], [8, 3, 60]], [[2, 2, 1], [1, 0, 0]], [[5, 0, 3], [1, 4, 2], [2, 1, 3]]),
    (7, Stream.TEST, 123456789, [[3, 13, 34], [5, 13, 34]], [[1, 3, 0], [1, 3, 2]], [[0, 4, 2], [1, 3, 2], [0, 3, 5]]),
]


@pytest.mark.parametrize(("seed", "stream", "first", "classes", "turns", "drawings"), PINNED)
def test_the_numbers_of_old_runs_tasks_stay(seed, stream, first, classes, turns, drawings):
    episodes = draw(EpisodeShape(3, 1, 2, True), first, first + 2, seed, stream)
    assert episodes.classes.tolist() == classes
    assert episodes.rotations.tolist() == turns
    assert episodes.pictures[0].tolist() == drawings


def read_off(seed, stream, number, shape, classes, drawings):
    """A task with plain numbers and decks: of its words first the classes, then the turns, then the drawings."""
    images = shape.shots + shape.queries
    blocks = (shape.ways * (2 + images) + 3) // 4
    generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    generator.advance(number * blocks)
    words = [(int(word) >> 11) / 2**53 for word in generator.random_raw(4 * blocks)]

    def take(deck, count):
        deck = list(deck)
        for place in range(count):
            other = place + int(words.pop(0) * (len(deck) - place))
            deck[place], deck[other] = deck[other], deck[place]
        return deck[:count]

    of_task = take(classes, shape.ways)
    turns = [words.pop(0) * 4 for _ in range(shape.ways)]
    return (
        of_task,
        [int(turn) * shape.rotations for turn in turns],
        [shape.reflections and turn % 1 < 0.5 for turn in turns],
        [take(range(drawings[of]), images) for of in of_task],
    )


@settings(deadline=None)
@given(
    shape=st.builds(
        EpisodeShape,
        ways=st.integers(2, 60),
        shots=st.integers(1, 5),
        queries=st.integers(1, 15),
        rotations=st.booleans(),
        reflections=st.booleans(),
    ),
    seed=st.integers(0, 2**64 - 1),
    stream=st.sampled_from(Stream),
    number=st.integers(0, 10**12),
    more_classes=st.integers(0, 1100),
    more_drawings=st.lists(st.integers(0, 30), min_size=3, max_size=3),
)
def test_a_task_is_read_off_the_generators_words(shape, seed, stream, number, more_classes, more_drawings):
    """The same as by shuffling whole decks, down to decks of which every card is dealt."""
    classes = np.arange(shape.ways + more_classes) + 7
    drawings = np.resize(np.array(more_drawings) + shape.shots + shape.queries, classes[-1] + 1)
    found = draw_episodes(seed, stream, number, number + 1, shape, classes, drawings)
    expected = read_off(seed, stream, number, shape, classes.tolist(), drawings.tolist())
    parts = (found.classes, found.rotations, found.reflections, found.pictures)
    assert tuple(part[0].tolist() for part in parts) == expected


LARGE = EpisodeShape(60, 1, 5, True, True)  # of whose words not many tasks' are drawn from at a time


def draw_large(ranges):
    return vars(draw_ranges(1, Stream.TRAIN, ranges, LARGE, np.arange(80), np.full(80, 6)))


@pytest.fixture(scope="module")
def one_by_one():
    """The first thousand large tasks, each drawn alone."""
    alone = [draw_large([(number, number + 1)]) for number in range(1000)]
    return {part: np.concatenate([task[part] for task in alone]) for part in alone[0]}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=6))
def test_ranges_are_drawn_one_after_the_other(one_by_one, lengths):
    """With gaps and overlaps, back and forth, empty ones, and long ones that are drawn in several turns."""
    ranges = [(first, first + length) for first, length in lengths]
    numbers = [number for range_ in ranges for number in range(*range_)]
    for part, found in draw_large(ranges).items():
        np.testing.assert_array_equal(found, one_by_one[part][numbers])


@pytest.mark.parametrize("rotations", [False, True])
def test_reflections_change_nothing_else(rotations):
    plain, mirrored = (draw(EpisodeShape(5, 1, 1, rotations, reflections), 0, 100) for reflections in (False, True))
    for part in ("classes", "rotations", "pictures"):
        np.testing.assert_array_equal(getattr(plain, part), getattr(mirrored, part))
    assert plain.reflections.shape == mirrored.reflections.shape == (100, 5)
    assert not plain.reflections.any()


def test_half_of_the_classes_are_mirrored_whatever_their_turn():
    """Counts of turn and reflection together within five standard deviations of a multinomial's."""
    episodes = draw(EpisodeShape(3, 1, 1, True, True), 0, 8000)
    both = 2 * episodes.rotations + episodes.reflections
    counts, expected = np.bincount(both.ravel(), minlength=8), both.size / 8
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all(), counts


def test_no_stream_ever_repeats_a_task_of_another():
    """Of so many classes and drawings that no task comes twice by chance."""
    classes, drawings, shape = np.arange(5000), np.full(5000, 50), EpisodeShape(5, 1, 1)
    assert list(Stream.__members__.values()) == [0, 1, 2, 3]  # two of one number would be one stream
    seen = set()
    for stream in Stream:
        episodes = draw_episodes(3, stream, 0, 200, shape, classes, drawings)
        seen |= {row.tobytes() for row in episodes.classes}
    assert len(seen) == 200 * len(Stream)


@settings(deadline=None, max_examples=25)
@given(
    counts=st.lists(st.integers(3, 40), min_size=4, max_size=12),
    ways=st.integers(2, 4),
    queries=st.integers(1, 2),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_picture_of_unequal_classes_is_drawn_and_none_twice_in_a_task(counts, ways, queries, seed):
    """So many tasks that a picture is missed by less than one chance in 10¹²."""
    shape, classes, sizes = EpisodeShape(ways, 1, queries), np.arange(len(counts)), np.array(counts)
    chance = ways / len(counts) * (1 + queries) / max(counts)  # of the rarest picture, a task
    tasks = int(np.ceil(40 / chance))
    found = draw_episodes(seed, Stream.TRAIN, 0, tasks, shape, classes, sizes)
    assert all(len(set(task)) == ways for task in found.classes.tolist())
    assert (np.diff(np.sort(found.pictures, axis=-1), axis=-1) > 0).all()
    of_each = np.broadcast_to(found.classes[..., None], found.pictures.shape)
    drawn = set(zip(of_each.ravel().tolist(), found.pictures.ravel().tolist(), strict=True))
    assert drawn == {(index, picture) for index, size in enumerate(counts) for picture in range(size)}


@given(size=st.integers(1, 2**31 - 1), share=st.floats(0, 1, exclude_max=True))
def test_every_picture_of_a_class_of_any_size_has_a_random_word(size, share):
    picture = int(share * size)
    word = np.uint64(-(-picture * 2**53 // size) << 11)
    assert _without_replacement(np.array([[word]]), np.array([size])).item() == picture
