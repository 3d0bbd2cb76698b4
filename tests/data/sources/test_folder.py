import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fanfold.data.errors import FanfoldError
from fanfold.data.source import ClassName
from fanfold.data.sources.folder import FolderSource
from fanfold.data.store import open_store, write_store


def save(path: Path, pixels: np.ndarray | Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)


def drawing(paper: int = 0, ink: int = 255, shape: tuple[int, int] = (8, 8)) -> np.ndarray:
    image = np.full(shape, paper, np.uint8)
    image[2:4, 2:-2] = ink
    return image


def test_one_level_of_folders_is_one_alphabet(tmp_path: Path) -> None:
    for name in ("cat", "bird"):
        save(tmp_path / "pets" / name / "1.png", drawing())
    source = FolderSource(tmp_path / "pets")
    assert source.names == [ClassName("pets", "bird"), ClassName("pets", "cat")]
    assert "drawings" not in source.attributes


def test_two_levels_are_alphabets(tmp_path: Path) -> None:
    for name in ("runes/b", "runes/a", "letters/z"):
        save(tmp_path / name / "1.jpg", drawing())
    assert FolderSource(tmp_path).names == [
        ClassName("letters", "z"),
        ClassName("runes", "a"),
        ClassName("runes", "b"),
    ]


def test_classes_may_differ_in_drawings(tmp_path: Path) -> None:
    for number, shade in enumerate((100, 200, 255)):
        save(tmp_path / "set/many" / f"{number}.png", drawing(ink=shade))
    save(tmp_path / "set/one/1.bmp", drawing())
    write_store(tmp_path / "set.zarr", FolderSource(tmp_path / "set", size=8), progress=False)
    store = open_store(tmp_path / "set.zarr")
    assert store.drawings.tolist() == [3, 1]
    pixels = store.read()
    assert pixels.shape == (2, 3, 8, 8)
    np.testing.assert_array_equal(pixels[0, 1], drawing(ink=200))
    np.testing.assert_array_equal(pixels[1, 0], drawing())
    assert not pixels[1, 1:].any()


@pytest.mark.parametrize(
    ("paper", "ink", "invert", "expected"),
    [
        (255, 0, "auto", drawing()),
        (0, 255, "auto", drawing()),
        (255, 0, False, drawing(255, 0)),
        (0, 255, True, drawing(255, 0)),
    ],
)
def test_inverts_dark_ink_on_light(tmp_path: Path, paper: int, ink: int, invert: bool, expected: np.ndarray) -> None:
    save(tmp_path / "a/1.png", drawing(paper, ink))
    np.testing.assert_array_equal(FolderSource(tmp_path, size=8, invert=invert).read(0)[0], expected)


def test_pads_to_a_square_with_the_paper_and_cuts_nothing_off(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", drawing(paper=240, ink=0, shape=(4, 12)))
    padded = FolderSource(tmp_path, size=12).read(0)[0]
    expected = np.full((12, 12), 15, np.uint8)
    expected[6:8, 2:10] = 255
    np.testing.assert_array_equal(padded, expected)


def test_averages_by_area(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", np.kron(drawing(), np.array([[1, 0], [0, 1]], np.uint8)))
    averaged = FolderSource(tmp_path, size=8).read(0)[0]
    assert set(np.unique(averaged)) == {0, 128}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_reads_every_mode(tmp_path: Path, mode: str) -> None:
    save(tmp_path / "a/1.png", Image.fromarray(drawing(paper=255, ink=0)).convert(mode))
    np.testing.assert_array_equal(FolderSource(tmp_path, size=8).read(0)[0], drawing())


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.int32, "I")])
def test_sixteen_bits_are_scaled_not_cut_off(tmp_path: Path, dtype: type, mode: str) -> None:
    image = Image.fromarray(drawing(paper=200, ink=100).astype(dtype) * 257)
    assert image.mode == mode
    save(tmp_path / "a/1.tiff", image)
    np.testing.assert_array_equal(FolderSource(tmp_path, size=8).read(0)[0], drawing(paper=55, ink=155))


def test_transparent_paper_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, 2:-2, 3] = 255  # black ink on transparent black
    save(tmp_path / "a/1.png", pixels)
    np.testing.assert_array_equal(FolderSource(tmp_path, size=8).read(0)[0], drawing())


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", drawing())
    source = FolderSource(tmp_path)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(0), source.read(0))


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "set/a/1.png", drawing())
    (tmp_path / "set/a/._1.png").write_bytes(b"")
    (tmp_path / "set/a/notes.txt").write_text("")
    (tmp_path / "set/.cache").mkdir()
    assert FolderSource(tmp_path / "set").read(0).shape == (1, 28, 28)


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FanfoldError, match=r"absent: there is no such folder"):
        FolderSource(tmp_path / "absent")
    with pytest.raises(FanfoldError, match="no class folders in it"):
        FolderSource(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(FanfoldError, match=r"/a: a class folder without images"):
        FolderSource(tmp_path)
    save(tmp_path / "a/1.png", drawing())
    with pytest.raises(FanfoldError, match=r"`dataset\.size` must be at least 1, not 0"):
        FolderSource(tmp_path, size=0)
    (tmp_path / "a/b").mkdir()
    with pytest.raises(FanfoldError, match=r"/a: holds images and folders"):
        FolderSource(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_an_unreadable_image_is_named_and_no_store_made(tmp_path: Path, content: bytes | None) -> None:
    save(tmp_path / "set/a/1.png", drawing())
    image = tmp_path / "set/a/1.png"
    image.write_bytes(image.read_bytes()[:45] if content is None else content)
    with pytest.raises(FanfoldError, match=r"a/1\.png: can't be read as an image"):
        write_store(tmp_path / "set.zarr", FolderSource(tmp_path / "set"), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
