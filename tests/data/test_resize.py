import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fanfold.data.resize import area_average

sides = st.integers(1, 12)
images = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, shape))


def by_oversampling(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Repeat each pixel so often that no boundary cuts one any more, then take the mean of blocks."""
    fine = image.astype(np.int64).repeat(size[0], axis=0).repeat(size[1], axis=1)
    blocks = fine.reshape(size[0], image.shape[0], size[1], image.shape[1])
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


@given(images, st.tuples(sides, sides))
def test_equals_the_mean_of_an_oversampled_image(image: np.ndarray, size: tuple[int, int]) -> None:
    np.testing.assert_array_equal(area_average(image, size), by_oversampling(image, size))


@given(images, st.tuples(sides, sides))
def test_keeps_the_mean_up_to_rounding(image: np.ndarray, size: tuple[int, int]) -> None:
    assert abs(area_average(image, size).mean() - image.mean()) <= 0.5 + 1e-9


@given(st.integers(0, 255), sides, sides, st.tuples(sides, sides))
def test_keeps_a_constant_image(value: int, height: int, width: int, size: tuple[int, int]) -> None:
    assert np.all(area_average(np.full((height, width), value, np.uint8), size) == value)


def test_shares_a_straddling_pixel_by_overlap() -> None:
    np.testing.assert_array_equal(area_average(np.array([[0, 255, 0]], np.uint8), (1, 2)), [[85, 85]])


def test_halves_round_up() -> None:
    np.testing.assert_array_equal(area_average(np.array([[0, 1], [2, 3]], np.uint8), (2, 1)), [[1], [3]])


def test_resizes_stacks_one_by_one() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (2, 3, 105, 105), np.uint8)
    resized = area_average(stack, (28, 28))
    assert resized.shape == (2, 3, 28, 28)
    np.testing.assert_array_equal(resized[1, 2], by_oversampling(stack[1, 2], (28, 28)))


def test_large_images_are_summed_exactly() -> None:
    area = 601 * 701  # odd: half of the pixels a shade lighter, give or take one, is just above or below a half
    for lighter, expected in ((area // 2, 250), (area // 2 + 1, 251)):
        image = np.full(area, 250, np.uint8)
        image[:lighter] += 1
        assert area_average(image.reshape(601, 701), (1, 1)) == expected


@pytest.mark.parametrize(("shape", "size"), [((0, 4), (2, 2)), ((4, 4), (0, 2))])
def test_refuses_images_without_pixels(shape: tuple[int, int], size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="can't resize"):
        area_average(np.zeros(shape, np.uint8), size)


def test_one_thread_is_at_work() -> None:
    """Preparing is parallel already: dense products would start as many threads again, which wait for each other."""
    image = np.random.default_rng(0).integers(0, 256, (2000, 1500), np.uint8)
    area_average(image, (84, 84))
    all_threads, this_one = time.process_time(), time.thread_time()
    for _ in range(5):
        area_average(image, (84, 84))
    all_threads, this_one = time.process_time() - all_threads, time.thread_time() - this_one
    assert all_threads < 1.5 * this_one
