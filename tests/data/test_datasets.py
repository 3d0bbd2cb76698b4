import os
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from fanfold.data.datasets import (
    DATASETS,
    Auto,
    Folder,
    Glyphs,
    Omniglot,
    Prepared,
    find_store,
    prepare,
    prepare_pictures,
)
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import read_picture
from fanfold.data.places import check_source
from fanfold.data.sources.arrays import classes_of_arrays, classes_of_lists
from fanfold.data.store import open_store, write_store
from tests.data.conftest import NoiseSource


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> Path:
    """An empty current directory, no copy of Omniglot, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNIGLOT_SOURCE", raising=False)
    return tmp_path


def write_noise(path: str, dataset: str) -> None:
    write_store(Path(path), NoiseSource(classes=5, dataset=dataset), progress=False)


def write_pictures(folder: str, classes: int = 3) -> None:
    for number in range(classes):
        path = Path(folder, f"class{number}", "1.png")
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((40, 40), 10 * number, np.uint8)).save(path)


@pytest.mark.parametrize(("dataset", "dataset_name"), [(Auto, "omniglot"), (Omniglot, "omniglot"), (Glyphs, "glyphs")])
def test_a_default_store_that_is_there_is_taken(dataset: type, dataset_name: str) -> None:
    write_noise(f"stores/{dataset_name}.zarr", dataset_name)
    assert find_store(dataset()) == Prepared(Path(f"stores/{dataset_name}.zarr"), dataset_name, None)


def test_auto_takes_any_store_that_is_named() -> None:
    write_noise("mine.zarr", "glyphs")
    assert find_store(Auto(store="mine.zarr")) == Prepared(Path("mine.zarr"), "glyphs")


def test_a_store_of_another_data_set_is_refused() -> None:
    write_noise("mine.zarr", "glyphs")
    with pytest.raises(FanfoldError, match=r"mine\.zarr: holds glyphs, not omniglot"):
        find_store(Omniglot(store="mine.zarr"))


@pytest.mark.parametrize("name", ["auto", "omniglot", "glyphs", "folder"])
def test_a_store_that_was_named_is_not_made_in_passing(elsewhere: Path, name: str) -> None:
    with pytest.raises(FanfoldError, match=f"`prepare dataset.name={name} dataset.store=absent.zarr"):
        find_store(DATASETS[name](store="absent.zarr"))
    assert not list(elsewhere.iterdir())


def test_auto_falls_back_to_glyphs_and_says_why() -> None:
    write_noise("stores/glyphs.zarr", "glyphs")
    found = find_store(Auto(), progress=False)
    assert (found.path, found.dataset) == (Path("stores/glyphs.zarr"), "glyphs")
    assert found.note is not None
    assert found.note.startswith("The embedded glyphs stand in for Omniglot: Omniglot could not be downloaded (")
    assert "\n" not in found.note


def test_omniglot_itself_never_falls_back(elsewhere: Path) -> None:
    write_noise("stores/glyphs.zarr", "glyphs")
    with pytest.raises(FanfoldError, match="Omniglot could not be downloaded"):
        find_store(Omniglot(), progress=False)
    assert [path.name for path in (elsewhere / "stores").iterdir()] == ["glyphs.zarr"]


@pytest.mark.parametrize("by_environment", [False, True])
@pytest.mark.parametrize("get", [find_store, prepare])
def test_auto_does_not_fall_back_from_a_bad_copy(
    get: type, by_environment: bool, monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    Path("empty").mkdir()
    if by_environment:
        monkeypatch.setenv("OMNIGLOT_SOURCE", "empty")
    with pytest.raises(FanfoldError, match="empty: no Omniglot in this folder"):
        get(Auto(source=None if by_environment else "empty"), progress=False)
    assert [path.name for path in elsewhere.iterdir()] == ["empty"]


def test_a_damaged_default_store_is_an_error_not_a_reason_to_fall_back() -> None:
    write_noise("stores/omniglot.zarr", "omniglot")
    Path("stores/omniglot.zarr/images/c/0/0/0/0").unlink()
    with pytest.raises(FanfoldError, match=r"chunk c/0/0/0/0 of array images is missing; prepare it again"):
        find_store(Auto(), progress=False)


def test_a_folder_is_prepared_under_its_name_when_first_asked_for() -> None:
    write_pictures("pets")
    found = find_store(Folder(source="pets"), progress=False)
    assert found == Prepared(Path("stores/pets.zarr"), "folder")
    assert open_store(found.path).size == (32, 32)
    assert find_store(Folder(source="pets/"), progress=False) == found


def test_folders_of_one_name_have_stores_of_their_own() -> None:
    write_pictures("pets")
    write_pictures("other/pets", classes=5)
    first, second = (find_store(Folder(source=source), progress=False) for source in ("pets", "other/pets"))
    assert first.path == Path("stores/pets.zarr")
    assert second.path.name.startswith("pets-")
    assert [len(open_store(found.path).names) for found in (first, second)] == [3, 5]
    assert find_store(Folder(source="other/pets"), progress=False) == second
    assert find_store(Folder(source="pets"), progress=False) == first


def test_a_source_has_to_be_there_unless_its_store_is() -> None:
    for name in ("auto", "omniglot", "cifar-fs", "folder"):
        with pytest.raises(FanfoldError, match="nowhere: there is no such folder or file"):
            check_source(name, "nowhere", None)
        with pytest.raises(FanfoldError, match="nowhere: there is no such folder or file"):
            check_source(name, "nowhere", "stores/absent.zarr")
        check_source(name, None, "stores/absent.zarr")
        check_source(name, "nowhere", "s3://bucket/absent.zarr")
    write_pictures("mine")
    check_source("folder", "mine", None)
    made = find_store(Folder(source="mine")).path
    Path("mine").rename("elsewhere")
    check_source("folder", "mine", None)
    check_source("folder", "nowhere", str(made))
    write_noise("stores/glyphs.zarr", "glyphs")
    check_source("auto", "nowhere", None)


def test_a_store_is_made_where_it_is_wanted() -> None:
    write_pictures("pets")
    found = find_store(Folder(source="pets", store="mine/own.zarr", size=14), progress=False)
    assert found.path == Path("mine/own.zarr")
    assert open_store(found.path).size == (14, 14)
    assert find_store(Folder(store="mine/own.zarr"), progress=False) == found  # of its own size


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (Folder(source="pets", size=14), "made with `dataset.size=32`, not 14"),
        (Folder(source="pets", handwriting=True), "made with the default of `dataset.handwriting`, not True"),
        (Folder(source="pets", channels="rgb"), "made with the default of `dataset.channels`, not rgb"),
        (
            Folder(source="other/pets", store="stores/pets.zarr"),
            r"made with `dataset.source=\S+/pets`, not \S+/other/pets",
        ),
        (Folder(store="stores/pets.zarr", size=14), "made with `dataset.size=32`, not 14"),
    ],
)
def test_a_store_made_otherwise_is_not_taken_for_what_is_asked(changed: Folder, says: str) -> None:
    write_pictures("pets")
    write_pictures("other/pets")
    find_store(Folder(source="pets"), progress=False)
    with pytest.raises(FanfoldError, match=says):
        find_store(changed, progress=False)


def test_a_folder_has_to_be_named() -> None:
    for get in (find_store, prepare):
        with pytest.raises(FanfoldError, match=r"name the folder of class folders with `dataset.source`"):
            get(Folder())


def test_preparing_does_not_overwrite_unasked() -> None:
    write_pictures("pets")
    prepare(Folder(source="pets"), progress=False)
    with pytest.raises(FanfoldError, match=r"exists already, made with `dataset.size=32`, not 14; .*`overwrite=true`"):
        prepare(Folder(source="pets", size=14), progress=False)
    with pytest.raises(FanfoldError, match=r"pets\.zarr: exists already, made of the same with the same settings"):
        prepare(Folder(source="pets"), progress=False)
    prepared = prepare(Folder(source="pets", size=14), overwrite=True, progress=False)
    assert open_store(prepared.path).size == (14, 14)


def test_pictures_that_are_newer_than_their_store_are_told() -> None:
    write_pictures("pets")
    store = prepare(Folder(source="pets"), progress=False).path
    assert find_store(Folder(source="pets"), progress=False).note is None
    picture, later = next(Path("pets").rglob("*.png")), (store / "zarr.json").stat().st_mtime + 5
    os.utime(picture, (later, later))
    note = find_store(Folder(source="pets"), progress=False).note
    assert note is not None
    assert note.startswith("Pictures may have changed since stores/pets.zarr was written: `prepare dataset.name=folder")


def test_the_advice_makes_a_folders_store_as_it_was() -> None:
    write_pictures("pets")
    prepared = prepare(Folder(source="pets", size=14, fit="pad", strict=True), progress=False)
    (prepared.path / "checksum/c/0").unlink()
    settings = (
        f"`prepare dataset.name=folder dataset.store=stores/pets.zarr dataset.source={Path('pets').resolve()} "
        "dataset.size=14 dataset.fit=pad dataset.strict=true overwrite=true`"
    )
    with pytest.raises(FanfoldError, match=settings):
        open_store(prepared.path)


def test_every_data_set_is_read_from_flags_and_explained() -> None:
    for name, dataset in DATASETS.items():
        parser = ArgumentParser()
        parser.add_argument("--dataset", type=dataset, default=dataset())
        assert parser.parse_args([f"--dataset.name={name}"]).dataset.name == name
    parser = ArgumentParser()
    parser.add_argument("--dataset", type=Folder, default=Folder())
    for text, value in (("auto", "auto"), ("true", True), ("false", False)):
        assert parser.parse_args([f"--dataset.invert={text}"]).dataset.invert == value
    help_text = " ".join(parser.format_help().split())
    assert "Height and width of the stored pictures, in pixels" in help_text


def test_pictures_in_memory_become_a_store() -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 20, 20, 3), np.uint8), np.arange(12) % 3
    made = prepare_pictures(
        classes_of_arrays(images, labels, ["a", "b", "c"]), Folder(store="memory.zarr"), progress=False
    )
    store = open_store(made.path)
    assert [name.name for name in store.names] == ["a", "b", "c"]
    assert (store.counts.tolist(), store.channels) == ([4, 4, 4], 3)
    expected = read_picture(images[1], store.preprocessing)
    np.testing.assert_array_equal(store.read(4, 5)[0], expected)
    with pytest.raises(FanfoldError, match="each picture needs one"):
        classes_of_arrays(images, labels[:-1])
    with pytest.raises(FanfoldError, match=r"`dataset\.store`"):
        prepare_pictures(classes_of_lists({"a": list(images[:2]), "b": list(images[2:4])}), Folder())
