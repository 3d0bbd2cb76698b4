from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold.data.images import CachedImages, WholeImages, open_images
from fanfold.data.store import Store, open_store, write_store
from tests.data.conftest import NoiseSource

CLASS_BYTES = 4 * 6 * 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("images") / "noise.zarr"
    write_store(path, NoiseSource(varying=True), progress=False)
    return open_store(path)


def test_what_fits_is_kept_whole(store: Store) -> None:
    assert isinstance(open_images(store), WholeImages)
    assert isinstance(open_images(store, 130 * CLASS_BYTES), WholeImages)
    assert isinstance(open_images(store, 130 * CLASS_BYTES - 1), CachedImages)


def test_gathers_by_class_and_drawing(store: Store) -> None:
    images = open_images(store)
    gathered = images.gather([[0, 129], [64, 1]], [[2, 1], [3, 0]])
    assert gathered.shape == (2, 2, 6, 8)
    np.testing.assert_array_equal(gathered[0, 1], NoiseSource(varying=True).read(129)[1])
    assert images.size == (6, 8)
    assert images.drawings.tolist() == NoiseSource(varying=True).counts()
    gathered[:] = 0  # a copy: what the worker keeps is not touched
    assert images.gather(129, 1).any()


def test_what_is_kept_whole_can_not_be_written_to(store: Store) -> None:
    with pytest.raises(ValueError, match="read-only"):
        WholeImages(store).pixels[0] = 0


indices = st.lists(st.tuples(st.integers(0, 129), st.integers(0, 2)), max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(capacity=st.integers(0, 20), calls=st.lists(indices, min_size=1, max_size=4))
def test_reading_by_class_gives_what_the_whole_gives(
    store: Store, capacity: int, calls: list[list[tuple[int, int]]]
) -> None:
    whole, cached = WholeImages(store), CachedImages(store, capacity * CLASS_BYTES)
    for call in calls:
        classes, drawings = np.array(call, np.int64).reshape(-1, 2).T
        np.testing.assert_array_equal(cached.gather(classes, drawings), whole.gather(classes, drawings))
        assert len(cached._classes) <= max(1, capacity)


def test_the_classes_used_last_are_kept(tmp_path: Path) -> None:
    write_store(tmp_path / "noise.zarr", NoiseSource(), progress=False)
    images = open_images(open_store(tmp_path / "noise.zarr"), 2 * CLASS_BYTES)
    kept = images.gather([0, 1], [0, 0])
    images.gather([0, 2], [0, 0])  # pushes out 1, not 0
    for shard in (tmp_path / "noise.zarr/images").rglob("0"):
        if shard.is_file():
            shard.unlink()
    np.testing.assert_array_equal(images.gather([0], [0]), kept[:1])
    with pytest.raises(Exception, match="class 1 "):
        images.gather([1], [0])


@pytest.mark.parametrize("memory_limit", [None, 0])
@pytest.mark.parametrize(
    ("classes", "drawings"),
    [([130], [0]), ([-1], [0]), ([1], [4]), ([1], [-1]), ([3], [3]), ([1, 2], [0])],
    ids=["class too large", "class from the end", "drawing too large", "drawing from the end", "blank", "shapes"],
)
def test_what_is_not_there_is_an_index_error(
    store: Store, memory_limit: int | None, classes: list[int], drawings: list[int]
) -> None:
    with pytest.raises(IndexError):
        open_images(store, memory_limit).gather(classes, drawings)
