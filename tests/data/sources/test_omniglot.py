import io
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fanfold.data.datasets import Omniglot, prepare
from fanfold.data.errors import FanfoldError
from fanfold.data.images import open_images
from fanfold.data.pictures import HANDWRITING
from fanfold.data.sources.omniglot import CHARACTERS, OmniglotSource
from fanfold.data.store import open_store, verify_store
from tests.conftest import Timed

PER_ALPHABET = 40


def picture(drawing: int) -> bytes:
    """A 1-bit picture of Omniglot's kind; the number of its drawing tells it from others."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[: 5 * drawing, 50:53] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(file, "PNG")
    return file.getvalue()


def write_archive(folder: Path, part: str, characters: int, drawings: int = 20) -> None:
    """An imitation of one of the archives: the last of its characters has as many drawings as told."""
    pictures = [picture(number) for number in range(1, 21)]
    with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
        archive.writestr(f"{part}/.DS_Store", b"")
        for index in reversed(range(characters)):  # in no helpful order
            alphabet, character = divmod(index, PER_ALPHABET)
            # the evaluation part's alphabets fall between those of the background
            place = f"{part}/Alphabet_{alphabet:02}_{part[7]}/character{character + 1:02}"
            for number in range(20 if index < characters - 1 else drawings):
                archive.writestr(f"{place}/0001_{number + 1:02}.png", pictures[number])


@pytest.fixture(scope="module")
def imitation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imitation")
    for part, characters in CHARACTERS.items():
        write_archive(folder, part, characters)
    return folder


def linked(imitation: Path, folder: Path, *parts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for part in parts:
        (folder / f"{part}.zip").symlink_to(imitation / f"{part}.zip")
    return folder


def test_alphabets_are_sorted_over_both_parts(imitation: Path) -> None:
    source = OmniglotSource(imitation)
    assert len(source.names) == 1623
    assert list(source.names) == sorted(source.names)
    assert [name.group[-1] for name in source.names[:81:40]] == ["b", "e", "b"]
    background = source.attributes["background_alphabets"]
    assert background == [f"Alphabet_{number:02}_b" for number in range(25)]


def test_drawings_are_in_the_order_of_their_files_with_ink_on_nothing(imitation: Path) -> None:
    drawings = np.concatenate(OmniglotSource(imitation).read(700, 0, 20))
    assert (drawings.shape, drawings.dtype) == ((20, 28, 28), np.uint8)
    assert np.all(np.diff(drawings.astype(int).sum(axis=(1, 2))) > 0)
    assert not drawings[:, :, :13].any()
    assert drawings[19, 0, 13:15].tolist() == [170, 34]  # columns of 3.75 that 50 to 53 covers by 2.5 and 0.5


def test_unpacked_folders_and_torchvisions_layout_are_read_alike(imitation: Path, tmp_path: Path) -> None:
    folder = linked(imitation, tmp_path / "omniglot-py", "images_background")
    with zipfile.ZipFile(imitation / "images_evaluation.zip") as archive:
        archive.extractall(folder)
    packed, unpacked = OmniglotSource(imitation), OmniglotSource(tmp_path)
    assert unpacked.names == packed.names
    for index in (0, 45):  # of either part
        assert unpacked.paths(index) == packed.paths(index)
        np.testing.assert_array_equal(unpacked.read(index, 0, 20), packed.read(index, 0, 20))


def test_a_folder_without_omniglot_is_said_to_be(tmp_path: Path) -> None:
    for folder, says in ((tmp_path / "absent", "there is no such folder"), (tmp_path, "no Omniglot in this folder")):
        with pytest.raises(FanfoldError, match=says) as caught:
            OmniglotSource(folder)
        assert str(caught.value).startswith(f"{folder}: ")
        assert "`dataset.source` or OMNIGLOT_SOURCE" in str(caught.value)


def test_a_folder_of_pictures_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "one.JPG").touch()
    with pytest.raises(FanfoldError, match=r"pictures of your own add `dataset.name=folder`"):
        OmniglotSource(tmp_path)
    (tmp_path / "cats" / "one.JPG").rename(tmp_path / "cats" / "one.txt")
    with pytest.raises(FanfoldError, match=r"no Omniglot in this folder; name a folder"):
        OmniglotSource(tmp_path)


def test_half_a_copy_is_said_to_be(imitation: Path, tmp_path: Path) -> None:
    linked(imitation, tmp_path, "images_background")
    with pytest.raises(FanfoldError, match=r"incomplete copy of Omniglot, without images_evaluation\(\.zip\)"):
        OmniglotSource(tmp_path)


@pytest.mark.parametrize(
    ("characters", "drawings", "says"),
    [
        (658, 20, "658 characters, not 659"),
        (659, 19, "19 drawings of Alphabet_16_e/character19, not 20"),
        (0, 20, "0 characters, not 659"),
    ],
)
def test_an_incomplete_copy_says_which_part_and_how_many(
    imitation: Path, tmp_path: Path, characters: int, drawings: int, says: str
) -> None:
    linked(imitation, tmp_path, "images_background")
    write_archive(tmp_path, "images_evaluation", characters, drawings)
    with pytest.raises(FanfoldError, match=rf"images_evaluation\.zip: incomplete copy of Omniglot: {says}"):
        OmniglotSource(tmp_path)


def cut_short(archive: bytearray) -> bytearray:
    return archive[: len(archive) // 2]


def flip_bytes_of_a_picture(archive: bytearray) -> bytearray:
    archive[len(archive) // 2 : len(archive) // 2 + 100] = bytes(100)
    return archive


@pytest.mark.parametrize("damage", [cut_short, flip_bytes_of_a_picture])
def test_a_damaged_archive_is_named_and_no_store_made(
    imitation: Path, tmp_path: Path, damage: Callable[[bytearray], bytearray]
) -> None:
    folder = linked(imitation, tmp_path / "copy", "images_background")
    archive = folder / "images_evaluation.zip"
    archive.write_bytes(damage(bytearray((imitation / "images_evaluation.zip").read_bytes())))
    with pytest.raises(FanfoldError, match=r"images_evaluation\.zip: damaged or cut short") as caught:
        prepare(Omniglot(source=str(folder), store=str(tmp_path / "stores/omniglot.zarr")), progress=False)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_drawings_of_another_size_are_refused_by_their_headers(tmp_path: Path) -> None:
    sizes = {
        60_000: "damaged or cut short",  # more than Pillow opens
        9_000: "9,000 x 9,000 pixels, where Omniglot's have 105 x 105",
        0: r"damaged or cut short \(not of a format that is read\)",
    }
    drawings = []
    for side in sizes:
        content = bytearray(picture(1))
        content[16:24] = 2 * side.to_bytes(4, "big")
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        drawings.append(content)
    for part, characters in CHARACTERS.items():
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            for number in range(20 * characters):
                content = drawings[number // 20] if number < 60 else b""
                archive.writestr(f"{part}/{part}/{number // 20:03}/{number:05}.png", content)
    source = OmniglotSource(tmp_path)
    for index, says in enumerate(sizes.values()):
        with pytest.raises(FanfoldError, match=says):
            source.read(index, 0, 1)


@pytest.mark.omniglot
def test_preparing_keeps_its_bars(omniglot_preparation: Timed) -> None:
    files = [path for path in omniglot_preparation.path.rglob("*") if path.is_file()]
    assert omniglot_preparation.seconds < 30
    assert sum(path.stat().st_size for path in files) < 8e6
    assert len(files) < 100
    verify_store(omniglot_preparation.path)


@pytest.mark.omniglot
def test_opening_keeps_its_bars(omniglot_store: Path) -> None:
    opening, loading = [], []
    for _ in range(3):  # the best of three: what else the machine does is not the store's doing
        start = time.perf_counter()
        store = open_store(omniglot_store)
        opening.append(time.perf_counter() - start)
        open_images(store)
        loading.append(time.perf_counter() - start)
    assert min(opening) < 0.1
    assert min(loading) < 0.5


@pytest.mark.omniglot
def test_the_store_holds_all_of_omniglot_in_order(omniglot_store: Path) -> None:
    store = open_store(omniglot_store)
    assert store.images.shape == (32460, 1, 28, 28)
    assert list(store.names) == sorted(store.names)
    assert len(store.groups) == 50
    assert store.names[0] == ("Alphabet_of_the_Magi", "character01")
    assert len(store.attributes["background_alphabets"]) == 30
    assert (store.preprocessing, store.dataset) == (HANDWRITING, "omniglot")


@pytest.mark.omniglot
@pytest.mark.parametrize(
    ("part", "alphabet", "character", "drawing"),
    [("images_background", "Greek", "character05", 7), ("images_evaluation", "Tengwar", "character25", 20)],
)
def test_a_drawing_is_the_originals_average_over_areas(
    omniglot_source: Path, omniglot_store: Path, part: str, alphabet: str, character: str, drawing: int
) -> None:
    with zipfile.ZipFile(omniglot_source / f"{part}.zip") as archive:
        (name,) = (
            name
            for name in archive.namelist()
            if f"/{alphabet}/{character}/" in name and name.endswith(f"_{drawing:02}.png")
        )
        paper = np.array(Image.open(archive.open(name)))  # true where white
    fine = (~paper).repeat(28, axis=0).repeat(28, axis=1)
    expected = np.floor(255 * fine.reshape(28, 105, 28, 105).mean(axis=(1, 3)) + 0.5)
    store = open_store(omniglot_store)
    stored = store.read()[store.first[store.names.index((alphabet, character))] + drawing - 1, 0]
    np.testing.assert_array_equal(stored, expected)
