"""Pictures in the layouts that people have."""

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from fanfold.data.datasets import Folder, find_store, prepare
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import read_picture
from fanfold.data.sources.arrays import read_npz
from fanfold.data.sources.tables import read_split, read_tables
from fanfold.data.splits import default_split
from fanfold.data.store import Store, open_store


def save(path: Path, colour: Any = (200, 30, 30), side: int = 12) -> None:
    """A picture of one colour, with a brighter corner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "L" if isinstance(colour, int) else "RGB"
    image = Image.new(mode, (side, side), colour)
    image.paste(255 if mode == "L" else (255, 255, 255), (0, 0, side // 2, side // 2))
    image.save(path)


def layout(folder: Path, files: Sequence[str]) -> Path:
    for file in files:
        save(folder / file)
    return folder


def prepared(source: Path, **settings: Any) -> tuple[Store, tuple[str, ...]]:
    """The store of a folder, and what was told."""
    path = source.parent / "made.zarr"
    made = prepare(Folder(source=str(source), store=str(path), size=8, **settings), overwrite=True, progress=False)
    return open_store(made.path), made.told


def counts(store: Store) -> dict[str, int]:
    return {"/".join(name): int(count) for name, count in zip(store.names, store.counts, strict=True)}


def parts(store: Store) -> dict[str, str]:
    return {name.name: part for name, part in zip(store.names, store.splits, strict=True)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["b/1.png", "a/1.jpg", "a/2.webp"], {"set/a": 2, "set/b": 1}),
        (["g/b/1.png", "f/z/1.png", "g/a/1.png"], {"f/z": 1, "g/a": 1, "g/b": 1}),
        (
            ["fruit/apple/red/1.png", "fruit/lemon/1.png", "milk/1.png"],
            {"fruit/lemon": 1, "fruit/apple/red": 1, "set/milk": 1},
        ),
        (["a/1.png", "a/more/1.png"], {"a/more": 1, "set/a": 1}),  # a class and a class in its folder
        (["a/1.png", "a/.hidden.png", ".cache/b/1.png", "a/._1.png"], {"set/a": 1}),
    ],
)
def test_a_folder_that_holds_pictures_is_a_class(tmp_path: Path, files: list[str], expected: dict[str, int]) -> None:
    store, _ = prepared(layout(tmp_path / "set", files))
    assert counts(store) == expected


def test_classes_are_in_the_order_of_their_bytes_and_keep_their_names(tmp_path: Path) -> None:
    names = ["sku7", "sku007", "1f3a4", "character12", "Zebra", "äpfel", "a b"]
    store, _ = prepared(layout(tmp_path / "set", [f"{name}/1.png" for name in names]))
    assert [name.name for name in store.names] == sorted(names, key=str.encode)


def test_names_that_are_no_utf8_are_kept_readable(tmp_path: Path) -> None:
    save(tmp_path / "set" / os.fsdecode(b"caf\xe9") / os.fsdecode(b"1\xe9.png"))
    save(tmp_path / "set/tea/1.png")
    store, _ = prepared(tmp_path / "set")
    assert [name.name for name in store.names] == ["caf\\xe9", "tea"]
    assert store.paths == ("caf\\xe9/1\\xe9.png", "tea/1.png")


def test_classes_of_any_size_keep_every_picture(tmp_path: Path) -> None:
    sizes = {"few": 1, "many": 70, "some": 3}
    store, _ = prepared(
        layout(tmp_path / "set", [f"{name}/{n}.png" for name, size in sizes.items() for n in range(size)])
    )
    assert counts(store) == {f"set/{name}": size for name, size in sizes.items()}
    assert store.paths[1] == "many/0.png"


def test_parts_with_distinct_classes_are_a_split(tmp_path: Path) -> None:
    store, _ = prepared(layout(tmp_path / "set", ["train/a/1.png", "train/b/1.png", "val/c/1.png", "test/g/d/1.png"]))
    assert parts(store) == {"a": "train", "b": "train", "c": "validation", "d": "test"}
    assert [name.group for name in store.names] == ["g", "set", "set", "set"]


def test_parts_with_the_same_classes_are_put_together(tmp_path: Path) -> None:
    files = [f"{part}/fruit/{name}/{part}.png" for part in ("train", "val", "test") for name in ("a", "b")]
    store, told = prepared(layout(tmp_path / "set", files[:-1]))
    assert counts(store) == {"fruit/a": 3, "fruit/b": 2}
    assert set(store.splits) == {""}
    assert "train, validation and test hold the same classes" in told[0]
    save(tmp_path / "set/test/fruit/round/b/1.png")  # a class in another group: its name tells that it is the same
    assert counts(prepared(tmp_path / "set")[0]) == {"fruit/a": 3, "fruit/b": 3}


def test_parts_that_are_neither_are_refused(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["train/a/1.png", "train/b/1.png", "val/a/1.png", "test/c/1.png"])
    with pytest.raises(FanfoldError, match=r"such as set/a, stand in several.*such as set/c, are not in train"):
        prepared(tmp_path / "set")


def test_folders_beside_parts_are_none_or_are_refused(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["train/a/1.png", "train/b/1.png", "test/c/1.png"])
    (tmp_path / "set/annotations").mkdir()
    (tmp_path / "set/annotations/a.xml").write_text("no picture")
    assert parts(prepared(tmp_path / "set")[0]) == {"a": "train", "b": "train", "c": "test"}
    save(tmp_path / "set/more/a/1.png")
    with pytest.raises(FanfoldError, match="set: more stands beside test and train, which are parts of a split: put"):
        prepared(tmp_path / "set")
    assert set(parts(prepared(tmp_path / "set", include="t*")[0])) == set("abc")


def test_one_part_alone_is_no_split(tmp_path: Path) -> None:
    """As of a contest: labelled pictures to train with, and others without labels."""
    layout(tmp_path / "set", [*(f"train/{name}/1.png" for name in "abcd"), "test/1.png", "test/2.png"])
    store, lines = prepared(tmp_path / "set")
    assert "2 pictures in no class folder: left out" in lines
    assert "all classes are of train, which is no split of them: they are split anew" in lines
    assert (parts(store), default_split(store)) == (dict.fromkeys("abcd", ""), "random")
    (tmp_path / "split.json").write_text('{"train": ["a", "b"]}')
    with pytest.raises(
        FanfoldError, match=r"split\.json: a split has classes that train, and ones that validate or test"
    ):
        prepared(tmp_path / "set", split_file=str(tmp_path / "split.json"))


def test_two_tables_of_one_part_are_refused(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a1.png", "b1.png"])
    listed = json.dumps({"image_names": ["b1.png"], "image_labels": [0], "label_names": ["b"]})
    for name, text in {"train.csv": "path,label\na1.png,a\n", "val.csv": "path,label\nb1.png,b\n"}.items():
        (tmp_path / "set" / name).write_text(text)
    assert counts(prepared(tmp_path / "set")[0]) == {"set/a": 1, "set/b": 1}
    (tmp_path / "set" / "val.json").write_text(listed)
    with pytest.raises(FanfoldError, match=r"set: val\.csv and val\.json both list the pictures of one part: keep one"):
        prepared(tmp_path / "set")


TABLE = "path,label,split\na1.png,a,train\na2.png,a,train\nsub/b1.png,b,val\nc1.png,c,test\n"


@pytest.mark.parametrize(
    ("tables", "source"),
    [
        ({"list.csv": TABLE}, "list.csv"),
        ({"metadata.csv": TABLE.replace("path,label", "file_name,label")}, ""),
        (
            {
                "train.csv": "filename,label\na1.png,a\na2.png,a\n",
                "val.csv": "filename,label\nsub/b1.png,b\n",
                "test.csv": "\ufefffilename,label\nc1.png,c\n",
            },
            "",
        ),
    ],
)
@pytest.mark.parametrize("folder", ["", "images"])
def test_tables_list_pictures_with_labels_and_parts(
    tmp_path: Path, tables: Mapping[str, str], source: str, folder: str
) -> None:
    layout(tmp_path / "set" / folder, ["a1.png", "a2.png", "sub/b1.png", "c1.png", "unlisted.png"])
    for name, text in tables.items():
        (tmp_path / "set" / name).write_text(text)
    store, _ = prepared(tmp_path / "set" / source if source else tmp_path / "set")
    assert counts(store) == {"set/a": 2, "set/b": 1, "set/c": 1}
    assert parts(store) == {"a": "train", "b": "validation", "c": "test"}


def test_each_part_may_have_a_table_of_its_own(tmp_path: Path) -> None:
    """As Hugging Face's imagefolder has it."""
    layout(tmp_path / "set", ["Train/1.png", "Train/2.png", "test/1.png", "val/d/1.png"])
    (tmp_path / "set/Train/metadata.csv").write_text("file_name,label\n1.png,a\n2.png,b\n")
    (tmp_path / "set/test/metadata.csv").write_text("file_name,label\n1.png,c\n")
    store, lines = prepared(tmp_path / "set")
    assert "left out val: it has no metadata.csv, as Train has" in lines
    assert parts(store) == {"a": "train", "b": "train", "c": "test"}
    assert counts(store) == {"set/a": 1, "set/b": 1, "set/c": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("label\na\n", "no column 'path'"),
        ("path,label\na1.png\n", "line 2 has 1 columns, where the first has 2"),
        ("path,label,split\na1.png,a,maybe\n", "a part of a split is train, val or test, not 'maybe'"),
        ("path,label\nabsent.png,a\n", "none of the pictures that it lists is there"),
        ("", "no column 'path'"),
    ],
)
def test_a_table_that_does_not_say_it_is_refused(tmp_path: Path, text: str, says: str) -> None:
    save(tmp_path / "a1.png")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(FanfoldError, match=f"list.csv: {says}"):
        prepared(tmp_path / "list.csv")


def test_cells_of_a_table_may_hold_ends_of_lines_commas_and_any_bytes(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a.png", "b.png", "c.png", "d.png"])
    cells = ["a.png", '"red\r\nfox"', "b.png", '"oak, old"', "c.png", "t\x85\u2028u", "d.png"]
    rows = "path,label\r\n{},{}\r\n{},{}\r\n{},{}\r\n{},".format(*cells).encode() + b"caf\xe9\r\n"
    (tmp_path / "set/metadata.csv").write_bytes(rows)
    store, _ = prepared(tmp_path / "set")
    assert {name.name for name in store.names} == {"red\r\nfox", "oak, old", "t\x85\u2028u", "caf\\xe9"}


def test_class_folders_without_a_picture_are_told(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png", "g/b/1.png"])
    for name in ("none", "g/notes", ".hidden"):
        (tmp_path / "set" / name).mkdir()
    (tmp_path / "set/g/notes/read.txt").write_text("no picture")
    _, lines = prepared(tmp_path / "set")
    assert "no picture in 2 class folders: g/notes, none" in lines
    (tmp_path / "set/none").rmdir()
    (tmp_path / "set/g/notes").rename(tmp_path / "notes")
    assert not any("no picture in" in line for line in prepared(tmp_path / "set")[1])


def test_settings_without_an_effect_are_refused(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png", "b/1.png"])
    with pytest.raises(FanfoldError, match=r"`dataset.handwriting` is grey and padded: leave `dataset.fit`"):
        prepared(tmp_path / "set", handwriting=True, fit="crop")
    (tmp_path / "set/metadata.csv").write_text("path,label\na/1.png,a\nb/1.png,b\n")
    with pytest.raises(FanfoldError, match=r"metadata.csv: a table lists its pictures itself: leave `dataset.include`"):
        prepared(tmp_path / "set", include="*.png")
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 4, 4), np.uint8), labels=["a", "b"])
    with pytest.raises(FanfoldError, match=r"set.npz: arrays have no paths: leave `dataset.include` out"):
        prepared(tmp_path / "set.npz", include="*.png")


def test_a_picture_is_no_source_and_heic_is_to_be_converted(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png"])
    with pytest.raises(FanfoldError, match=r"1\.png: a picture, where a source is a folder of class folders"):
        prepared(tmp_path / "set/a/1.png")
    (tmp_path / "set/a/1.png").rename(tmp_path / "set/a/1.HEIC")
    with pytest.raises(FanfoldError, match=r"set: 1 file is not read: 1 \.heic; convert HEIC to JPEG$"):
        prepared(tmp_path / "set")
    (tmp_path / "set/metadata.csv").write_text("path,label\na/1.HEIC,a\n")
    with pytest.raises(FanfoldError, match=r"none of the pictures that it lists is read: 1 file is not read: 1 \.heic"):
        prepared(tmp_path / "set")


def test_a_picture_that_a_table_lists_again_is_taken_once_and_none_in_the_place_of_another(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png", "b/1.png", "b/2.png", "1.png"])
    rows = "a/1.png,a", "b/1.png,b", "b/2.png,b", "b/1.png,b", "c/1.png,c"
    (tmp_path / "set/metadata.csv").write_text("\n".join(("path,label", *rows)))
    store, lines = prepared(tmp_path / "set")
    assert counts(store) == {"set/a": 1, "set/b": 2}
    assert "left out 1 picture of the table, not found, such as c/1.png" in lines
    with pytest.raises(FanfoldError, match="left out 1 picture of the table, not found"):
        prepared(tmp_path / "set", strict=True)
    assert "1 picture listed again by the table: taken once" in lines


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_split_file_gives_each_classs_part(tmp_path: Path, suffix: str) -> None:
    layout(tmp_path / "set", [f"g/{name}/1.png" for name in "abcd"])
    file = tmp_path / f"split.{suffix}"
    by_part = {"train": ["a", "g/b"], "val": ["c"]}
    rows = "".join(f"{name},{part}\n" for part, names in by_part.items() for name in names)
    file.write_text(json.dumps(by_part) if suffix == "json" else f"class,split\n{rows}")
    store, _ = prepared(tmp_path / "set", split_file=str(file))
    assert parts(store) == {"a": "train", "b": "train", "c": "validation", "d": ""}
    file.write_text('{"train": ["a"], "test": ["a"]}' if suffix == "json" else "class,split\na,train\na,test\n")
    with pytest.raises(FanfoldError, match="the class 'a' is of two parts, train and test"):
        prepared(tmp_path / "set", split_file=str(file))
    file.write_text('{"train": ["x"]}' if suffix == "json" else "class,split\nx,train\n")
    with pytest.raises(FanfoldError, match="there is no class 'x'"):
        prepared(tmp_path / "set", split_file=str(file))


def test_arrays_in_a_file(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((6, 9, 9)).astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(6) % 2, label_names=["cat", "dog"])
    store, told = prepared(tmp_path / "data.npz")
    assert {name.name: int(count) for name, count in zip(store.names, store.counts, strict=True)} == {
        "cat": 3,
        "dog": 3,
    }
    assert (store.preprocessing.white, store.channels) == (1.0, 1)
    assert "deeper than 8 bits" in told[0]
    (tmp_path / "data.npz").write_bytes(b"PK no")
    with pytest.raises(FanfoldError, match="can't be read as arrays"):
        prepared(tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("labels", "names", "says"),
    [
        ([0, 1], "ab", "names of classes"),  # of no dimension
        ([0, 1], [["a"], ["b"]], "names of classes"),
        ([0, 1], ["a", "a"], "Two classes have one name"),
        ([0, -1], ["a", "b"], "A label must be a number from 0 to 1"),
        (np.zeros(2, "V4"), None, "labels must be numbers or text"),
    ],
)
def test_arrays_without_a_name_for_each_class_are_refused(tmp_path: Path, labels: Any, names: Any, says: str) -> None:
    arrays = {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array(labels)}
    np.savez(tmp_path / "a.npz", **arrays, **({} if names is None else {"names": np.array(names)}))
    with pytest.raises(FanfoldError, match=rf"a\.npz: .*{says}"):
        read_npz(tmp_path / "a.npz")


def test_labels_of_arrays_may_be_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([b"b", b"a"]))
    assert [one.name.name for one in read_npz(tmp_path / "a.npz")] == ["a", "b"]


def test_names_of_lists_are_text(tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    for names in ([1, 2], [["a"]], [None]):
        split.write_text(json.dumps({"train": names}))
        with pytest.raises(FanfoldError, match="to lists of classes' names"):
            read_split(split)
    split.write_text('{"train": ["\\ud800"]}')
    assert read_split(split) == {"\\ud800": "train"}  # as a folder would be called
    for labels in ([True], [["a"]], [None], [1.5]):
        listed = {"image_names": ["a.png"], "image_labels": labels, "label_names": ["a", "b"]}
        (tmp_path / "base.json").write_text(json.dumps(listed))
        with pytest.raises(FanfoldError, match=r"base\.json: a picture's name must be text"):
            read_tables([(tmp_path / "base.json", "train")])


def test_pictures_whose_names_are_too_long_are_not_there(tmp_path: Path) -> None:
    layout(tmp_path, ["x/1.png"])
    table = tmp_path / "t.csv"
    table.write_text(f"path,label\n{'a' * 300},x\nx/1.png,x\n")
    found = read_tables([(table, "")])
    assert (len(found.entries), len(found.notes)) == (1, 1)
    assert found.notes[0].startswith("left out 1 picture of the table, not found, such as aaa")


def test_arrays_that_unpack_to_more_than_the_memory_are_not_unpacked(tmp_path: Path) -> None:
    buffer = BytesIO()
    np.savez_compressed(buffer, images=np.zeros((2, 8, 8), np.uint8), labels=np.arange(2))
    content = bytearray(buffer.getvalue())
    place = content.rindex(b"images.npy") - 46  # of the entry in the archive's directory
    content[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "bomb.npz").write_bytes(content)
    with (
        patch("psutil.virtual_memory", return_value=SimpleNamespace(available=2**30)),
        pytest.raises(FanfoldError, match=r"bomb\.npz: its arrays take 4\.0 GiB of memory, of which 1\.0 are there"),
    ):
        read_npz(tmp_path / "bomb.npz")


def test_colour_is_kept_where_there_is_some(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"set/{number}/1.png", 80)
    store, told = prepared(tmp_path / "set")
    assert (store.channels, told) == (1, ("no picture has colour: all are grey",))
    save(tmp_path / "set/2/2.png")
    store, told = prepared(tmp_path / "set")
    assert (store.channels, told) == (3, ("the pictures have colour, which was kept",))
    np.testing.assert_array_equal(store.read()[-1, :, -1, -1], [200, 30, 30])  # not inverted, either
    assert prepared(tmp_path / "set", channels="grey")[0].channels == 1
    assert prepared(tmp_path / "set", handwriting=True)[0].preprocessing.handwriting


def test_handwriting_is_inverted_only_where_asked_for(tmp_path: Path) -> None:
    for paper in (250, 10):
        image = Image.new("L", (8, 8), paper)
        image.paste(260 - paper, (2, 2, 5, 5))
        (tmp_path / "set/a").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / f"set/a/{paper}.png")
    assert prepared(tmp_path / "set", handwriting=True)[0].read()[:, 0, 0, 0].tolist() == [10, 5]
    assert prepared(tmp_path / "set")[0].read()[:, 0, 0, 0].tolist() == [10, 250]
    with pytest.raises(FanfoldError, match=r"`dataset\.invert` belongs to handwriting"):
        prepared(tmp_path / "set", invert="auto")


@pytest.mark.parametrize(
    ("kind", "values", "stored", "most"),
    [(np.uint16, (1000, 4095), [62, 255], "4095"), (np.float32, (0.25, 1.0), [64, 255], "1")],
)
def test_deep_pictures_share_one_range(
    tmp_path: Path, kind: type, values: tuple[float, float], stored: list[int], most: str
) -> None:
    (tmp_path / "set/a").mkdir(parents=True)
    for number, value in enumerate(values):
        pixels = np.full((8, 8), value, kind)
        pixels[0] = 0
        Image.fromarray(pixels).save(tmp_path / f"set/a/{number}.tiff")
    store, told = prepared(tmp_path / "set")
    assert store.read()[:, 0, 7, 7].tolist() == stored
    assert f"2 pictures deeper than 8 bits were scaled by the range in use, 0 to {most}" in told


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png", "a/2.png", "a/1_mask.png", "b/1.png", "b/1_mask.png", "loose.png"])
    (tmp_path / "set/a/2.png").write_bytes(b"\x89PNG broken")
    for name in ("scan.dcm", "phone.heic", "notes.txt"):
        (tmp_path / "set/b" / name).write_bytes(b"x")
    store, told = prepared(tmp_path / "set", include="*/?.png")
    assert counts(store) == {"set/a": 1, "set/b": 1}
    words = "\n".join(told)
    assert "1 picture in no class folder: left out" in words
    assert "2 pictures not matched by `dataset.include`: left out" in words
    assert "3 files are not read: 1 .dcm, 1 .heic, 1 .txt; convert HEIC to JPEG" in told
    assert words.count("HEIC") == 1
    assert f"1 picture was skipped: {tmp_path}/set/a/2.png: can't be read as a picture" in words
    with pytest.raises(FanfoldError, match="3 files are not read"):
        prepared(tmp_path / "set", strict=True)
    for name in ("scan.dcm", "phone.heic"):
        (tmp_path / "set/b" / name).unlink()
    with pytest.raises(FanfoldError, match=r"2\.png: .*mend or remove it"):
        prepared(tmp_path / "set", strict=True)


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FanfoldError, match="absent: there is no such folder"):
        prepared(tmp_path / "absent")
    (tmp_path / "set").mkdir()
    with pytest.raises(FanfoldError, match="no class folders in it"):
        prepared(tmp_path / "set")
    save(tmp_path / "set/a/1.png")
    with pytest.raises(FanfoldError, match=r"`dataset\.size` must be from 1 to 1024, not 0"):
        prepare(Folder(source=str(tmp_path / "set"), size=0), progress=False)
    with pytest.raises(FanfoldError, match=r"`'dataset\.include=x\*'` matches none of 1"):
        prepared(tmp_path / "set", include="x*")
    (tmp_path / "set/a/1.png").write_bytes(b"")
    with pytest.raises(FanfoldError, match=r"No picture of .* can be read: .*1\.png"):
        prepared(tmp_path / "set")
    assert not (tmp_path / "made.zarr").exists()


def test_pictures_of_one_colour_all_over_are_told(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png", "b/1.png"])
    for name in ("a/2.png", "b/2.png"):
        Image.new("RGB", (9, 9), "teal").save(tmp_path / "set" / name)
    store, told = prepared(tmp_path / "set")
    assert store.pictures == 4
    assert "2 pictures have one colour all over: a/2.png; b/2.png" in told


def test_of_several_frames_the_first_is_read_and_that_is_told(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png"])
    (tmp_path / "set/b").mkdir()
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "set/b/film.gif", save_all=True, append_images=[blue])
    store, told = prepared(tmp_path / "set")
    assert store.read()[1, :, 0, 0].tolist() == [255, 0, 0]
    assert "1 file of several frames: the first of each was read" in told


def test_a_default_that_is_asked_for_is_compared_with_the_store_that_is_there(tmp_path: Path) -> None:
    layout(tmp_path / "set", ["a/1.png", "b/1.png"])
    store, _ = prepared(tmp_path / "set", fit="pad")
    same = {"source": str(tmp_path / "set"), "store": str(store.path)}
    for settings in ({}, {"fit": "pad"}, {"channels": "auto", "background": "white"}):
        assert find_store(Folder(**same, **settings)).path == store.path
    with pytest.raises(FanfoldError, match=r"made with `dataset\.fit=pad`, not crop"):
        find_store(Folder(**same, fit="crop"))
    ink, _ = prepared(tmp_path / "set", handwriting=True)
    for settings in ({}, {"handwriting": True, "fit": "pad", "invert": "auto"}):
        assert find_store(Folder(**same, **settings)).path == ink.path
    with pytest.raises(FanfoldError, match=r"made with `dataset\.handwriting=true`, not False"):
        find_store(Folder(**same, handwriting=False))


def test_the_lists_of_closer_look_few_shot_are_a_source_and_a_split(tmp_path: Path) -> None:
    """Written on another machine, whose folders aren't there."""
    layout(tmp_path / "birds", [f"{name}/{number}.png" for name in "abcdef" for number in range(2)])
    for file, names in (("base", "ab"), ("val", "cd"), ("novel", "ef")):
        rows = [(f"/data/cub/images/{name}/{number}.png", "abcdef".index(name)) for name in names for number in (0, 1)]
        pictures, labels = zip(*rows, strict=True)
        content = {"label_names": list("abcdef"), "image_names": pictures, "image_labels": labels}
        (tmp_path / f"birds/{file}.json").write_text(json.dumps(content))
    store, _ = prepared(tmp_path / "birds")
    expected = dict(zip("abcdef", ["train"] * 2 + ["validation"] * 2 + ["test"] * 2, strict=True))
    assert parts(store) == expected
    assert store.counts.tolist() == [2] * 6
    (tmp_path / "lists").mkdir()
    for file in ("base", "val", "novel"):
        (tmp_path / f"birds/{file}.json").rename(tmp_path / f"lists/{file}.json")
    assert parts(prepared(tmp_path / "birds", split_file=str(tmp_path / "lists"))[0]) == expected
    with pytest.raises(FanfoldError, match=r"base\.json: lists the pictures of one part: name the folder"):
        prepared(tmp_path / "birds", split_file=str(tmp_path / "lists/base.json"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_colour_is_scaled_by_the_range_in_use_not_cut(tmp_path: Path, suffix: str) -> None:
    """Colours of 12 bits in files of 16 bits, whose upper 8 bits are nearly black."""
    values = np.full((8, 8, 3), (0, 0, 4095), np.uint16)
    values[:4, :4] = 4095, 2048, 0
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        path = tmp_path / f"set/{name}/1.{suffix}"
        if suffix == "png":
            path.write_bytes(png_of_16_bits(values))
        else:
            tifffile.imwrite(path, values, photometric="rgb")
    store, told = prepared(tmp_path / "set")
    assert "2 pictures deeper than 8 bits were scaled by the range in use, 0 to 4095" in told
    assert store.channels == 3
    np.testing.assert_array_equal(store.read()[0, :, 7, 7], [0, 0, 255])
    assert read_picture(path, store.preprocessing).tolist() == store.read()[0].tolist()


def png_of_16_bits(values: NDArray[np.uint16]) -> bytes:
    """A PNG file, as Pillow can't write one of deep colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
