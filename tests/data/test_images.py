from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanfold.data.errors import FanfoldError
from fanfold.data.images import CachedImages, WholeImages, open_images
from fanfold.data.mapped import mapped_pixels
from fanfold.data.store import Store, open_store, write_store
from tests.data.conftest import NoiseSource

CHUNK = 8
CHUNK_BYTES = CHUNK * 6 * 8
BYTES = sum(NoiseSource(varying=True).counts) * 6 * 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("images") / "noise.zarr"
    write_store(path, NoiseSource(varying=True), progress=False)
    return open_store(path)


def test_what_fits_is_kept_whole(store: Store) -> None:
    assert isinstance(open_images(store), WholeImages)
    assert isinstance(open_images(store, BYTES), WholeImages)
    assert isinstance(open_images(store, BYTES - 1), CachedImages)


def test_gathers_by_class_and_picture(store: Store) -> None:
    images = open_images(store)
    gathered = images.gather([[0, 129], [64, 1]], [[2, 1], [3, 0]])
    assert gathered.shape == (2, 2, 1, 6, 8)
    np.testing.assert_array_equal(gathered[0, 1], NoiseSource(varying=True).whole(129)[1])
    assert images.size == (6, 8)
    assert images.channels == 1
    assert images.counts.tolist() == NoiseSource(varying=True).counts
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
    whole, cached = WholeImages(store), CachedImages(store, capacity * CHUNK_BYTES)
    for call in calls:
        classes, pictures = np.array(call, np.int64).reshape(-1, 2).T
        np.testing.assert_array_equal(cached.gather(classes, pictures), whole.gather(classes, pictures))
        assert len(cached._chunks) <= max(1, capacity)


def test_the_chunks_used_last_are_kept(tmp_path: Path) -> None:
    write_store(tmp_path / "noise.zarr", NoiseSource(), progress=False)
    images = open_images(open_store(tmp_path / "noise.zarr"), 2 * CHUNK_BYTES)  # classes 2n and 2n + 1 share a chunk
    kept = images.gather([0, 2], [0, 0])
    images.gather([0, 4], [0, 0])  # pushes out 2, not 0
    for shard in (tmp_path / "noise.zarr/images").rglob("0"):
        if shard.is_file():
            shard.unlink()
    np.testing.assert_array_equal(images.gather([1, 0], [0, 0])[1:], kept[:1])
    with pytest.raises(FanfoldError, match="chunk 1 "):
        images.gather([2], [0])


def test_a_file_a_machine_is_mapped_and_made_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fanfold.data.images.SMALL", 0)
    first = open_images(store)
    assert isinstance(first, WholeImages)
    assert isinstance(first.pixels, np.memmap)
    np.testing.assert_array_equal(first.pixels, store.read())
    (file,) = (tmp_path / "cache").glob("*.pictures")
    assert file.stem == store.digest
    before = file.stat().st_ino
    assert open_images(store) is not None
    assert file.stat().st_ino == before
    file.chmod(0o644)
    with file.open("r+b") as opened:  # damaged: made anew
        opened.seek(1000)
        opened.write(b"\0\1\2\3")
    again = open_images(store)
    assert isinstance(again, WholeImages)
    np.testing.assert_array_equal(again.pixels, store.read())
    assert file.stat().st_ino != before


def test_where_the_disk_is_short_or_closed_chunks_are_cached(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fanfold.data.mapped.ROOM", 2**62)
    assert mapped_pixels(store) is None
    assert not list((tmp_path / "cache").glob("*.pictures"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "file"))
    assert mapped_pixels(store) is None


@pytest.mark.parametrize("memory_limit", [None, 0])
@pytest.mark.parametrize(
    ("classes", "pictures"),
    [([130], [0]), ([-1], [0]), ([1], [4]), ([1], [-1]), ([3], [3]), ([1, 2], [0])],
    ids=[
        "class too large",
        "class from the end",
        "picture too large",
        "picture from the end",
        "of the next class",
        "shapes",
    ],
)
def test_what_is_not_there_is_an_index_error(
    store: Store, memory_limit: int | None, classes: list[int], pictures: list[int]
) -> None:
    with pytest.raises(IndexError):
        open_images(store, memory_limit).gather(classes, pictures)
