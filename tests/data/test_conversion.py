"""Another data set, brought to the size and colours that a network wants."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fanfold.data.conversion import find_converted
from fanfold.data.datasets import Auto, Folder
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import HANDWRITING, Preprocessing, read_picture
from fanfold.data.splits import ALL, split_classes
from fanfold.data.store import open_store, write_store
from tests.data.conftest import NoiseSource


def converted(dataset, wanted):
    return find_converted(dataset, wanted, progress=False)[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of three pictures in colour, each other in its size."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "my pictures" / "ab"[number // 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20 + number, 30, 3), np.uint8)).save(path)
    return tmp_path / "my pictures"


@pytest.mark.parametrize("wanted", [Preprocessing(12, 3), Preprocessing(9, 1, "pad"), HANDWRITING])
def test_a_folders_pictures_are_read_as_new_pictures_of_the_run_are(folder, wanted):
    store = converted(Folder(source=str(folder), split="given"), wanted)
    assert (store.title, store.channels, store.size) == ("my pictures", wanted.channels, (wanted.size, wanted.size))
    files = sorted(folder.rglob("*.png"))
    assert (store.read() == np.stack([read_picture(str(file), wanted) for file in files])).all()
    again, note = find_converted(Folder(source=str(folder)), wanted, progress=False)
    assert (again.path, again.digest, note) == (store.path, store.digest, None)
    some = converted(Folder(source=str(folder), include="a/*"), wanted)
    assert len(some.names) == 1


def test_a_folder_that_changed_since_it_was_converted_is_told(folder):
    store = converted(Folder(source=str(folder)), Preprocessing(12, 3))
    later = (store.path / "zarr.json").stat().st_mtime + 10
    os.utime(folder / "a" / "0.png", (later, later))
    _, note = find_converted(Folder(source=str(folder)), Preprocessing(12, 3), progress=False)
    assert note == f"Pictures may have changed since {store.path} was written: remove it, and it is made anew."


def test_deep_pictures_are_scaled_by_the_runs_range_not_by_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "deep" / name).mkdir(parents=True)
        Image.fromarray(np.arange(0, 900, 100, np.uint16).reshape(3, 3)).save(tmp_path / "deep" / name / "0.png")
    wanted = Preprocessing(3, 1, black=100, white=4095)
    store = converted(Folder(source="deep"), wanted)
    assert store.preprocessing == wanted
    assert store.read()[0].tolist() == read_picture(str(tmp_path / "deep" / "a" / "0.png"), wanted).tolist()
    assert store.read().max() == round(700 / 3995 * 255)


def test_a_stores_pictures_are_converted_once_and_left_alone_where_they_suit(folder):
    converted(Folder(source=str(folder)), replace(HANDWRITING, size=10))
    (ink,) = folder.parent.glob("stores/*.zarr")
    given = Auto(store=str(ink))
    assert converted(given, replace(HANDWRITING, size=10, invert=False)).path == ink
    shown = converted(given, Preprocessing(10, 3))
    assert shown.path != ink
    assert (shown.title, shown.names) == ("my pictures", open_store(ink).names)
    assert (shown.read() == 255 - open_store(ink).read()).all()  # handwriting is shown dark on white
    written = (shown.path / "zarr.json").stat().st_mtime_ns
    assert (converted(given, Preprocessing(10, 3)).path / "zarr.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("invert", ["auto", True, False])
def test_handwriting_of_another_size_stays_bright_on_0(folder, invert):
    pixels = np.zeros((3, 20, 20), np.uint8)
    pixels[:, 8:12, 4:16] = 255
    for name in "ab":
        (folder.parent / "ink" / name).mkdir(parents=True)
        for number, drawing in enumerate(pixels):
            Image.fromarray(255 - drawing).save(folder.parent / "ink" / name / f"{number}.png")
    converted(Folder(source=str(folder.parent / "ink")), replace(HANDWRITING, size=20))
    (ink,) = folder.parent.glob("stores/ink*.zarr")
    assert (open_store(ink).read() == pixels[0]).all()
    found = converted(Auto(store=str(ink)), replace(HANDWRITING, size=10, invert=invert))
    assert (found.read() == pixels[0, ::2, ::2]).all()


def test_all_classes_test_where_nothing_was_trained_on(tmp_path):
    write_store(tmp_path / "noise.zarr", NoiseSource(classes=3), progress=False)
    split = split_classes(open_store(tmp_path / "noise.zarr"), ALL)
    assert [part.tolist() for part in (split.train, split.validation, split.test)] == [[], [], [0, 1, 2]]


def test_a_data_set_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FanfoldError, match="nowhere"):
        find_converted(Folder(source="nowhere"), Preprocessing(8, 3), progress=False)
    assert not list(tmp_path.glob("stores/*"))
