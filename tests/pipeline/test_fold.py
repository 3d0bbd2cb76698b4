import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fanfold.pipeline.fold import FAN_IN, ChunkSum, fold_all, levels


def make_parts(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        ChunkSum(random.normal(size=50).astype(np.float32), random.normal(), random.random(), 3, (n,) if n % 4 else ())
        for n in range(count)
    ]


@given(st.integers(1, 600), st.integers(2, 9))
def test_the_tree_takes_every_part_once_and_ends_in_one(parts, fan_in):
    tree = levels(parts, fan_in)
    for level in tree:
        assert [place for places in level for place in places] == list(range(parts))
        assert all(1 <= len(places) <= fan_in for places in level)
        parts = len(level)
    assert parts == 1


@given(st.integers(1, 100))
def test_the_fold_is_the_sum(count):
    parts = make_parts(count)
    total = fold_all(parts)
    exact = np.sum([part.gradient.astype(np.float64) for part in parts], axis=0)
    np.testing.assert_allclose(total.gradient, exact, rtol=1e-4, atol=1e-4)
    assert total.gradient.dtype == np.float32
    assert total.tasks == 3 * count
    np.testing.assert_allclose(total.loss, sum(part.loss for part in parts))
    np.testing.assert_allclose(total.accuracy, sum(part.accuracy for part in parts))
    assert total.broken == tuple(n for n in range(count) if n % 4)


def test_any_stretch_of_the_vector_folds_to_the_same_bits_on_its_own():
    parts = make_parts(3 * FAN_IN + 1)
    whole = fold_all(parts).gradient
    stretch = [ChunkSum(part.gradient[7:23], part.loss, part.accuracy, part.tasks) for part in parts]
    assert fold_all(stretch).gradient.tobytes() == whole[7:23].tobytes()


def test_parts_are_left_as_they_were_and_may_be_read_only():
    parts = make_parts(5)
    for part in parts:
        part.gradient.flags.writeable = False
    before = [part.gradient.copy() for part in parts]
    fold_all(parts)
    assert all(np.array_equal(part.gradient, copy) for part, copy in zip(parts, before, strict=True))
