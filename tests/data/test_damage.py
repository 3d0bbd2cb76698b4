"""What is wrong with a store is said, with the array, the chunk and the classes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr

from fanfold.data.errors import FanfoldError
from fanfold.data.images import open_images
from fanfold.data.schema import seal
from fanfold.data.store import open_store, verify_store

SHARD = "images/c/1/0/0/0"  # pictures 128 to 255, classes 32 to 63
INDEX = 16 * 16 + 4  # bytes at a shard's end: offset and length of each chunk, and a CRC-32C


def index_of(shard: bytes) -> np.ndarray:
    return np.frombuffer(shard[-INDEX:-4], "<u8").reshape(16, 2).copy()


def flip_a_byte(path: Path) -> None:
    shard = bytearray((path / SHARD).read_bytes())
    offset, length = index_of(shard)[4].tolist()
    shard[offset + length // 2] ^= 0x10
    (path / SHARD).write_bytes(shard)


def drop_from_index(path: Path) -> None:
    shard = (path / SHARD).read_bytes()
    index = index_of(shard)
    index[4] = 2**64 - 1
    encoded = index.tobytes()
    crc = google_crc32c.value(encoded).to_bytes(4, "little")
    (path / SHARD).write_bytes(shard[:-INDEX] + encoded + crc)


def change_through_zarr(path: Path) -> None:
    images = zarr.open_group(path, mode="r+")["images"]
    images[160:168] = images[168:176]


def truncate(path: Path) -> None:
    shard = (path / SHARD).read_bytes()
    (path / SHARD).write_bytes(shard[: len(shard) // 2])


def delete(path: Path) -> None:
    (path / SHARD).unlink()


ONE = r"array images, chunk 20 in c/1/0/0/0, of the classes 40 to 41 \(from Group 1/ж40 on\): damaged \("
ALL = r"array images, chunk 16 to 31 in c/1/0/0/0, of the classes 32 to 63 \(from Group 1/ж32 on\): damaged \("


@pytest.mark.parametrize(
    ("damage", "says"),
    [(flip_a_byte, ONE), (drop_from_index, ONE), (change_through_zarr, ONE), (truncate, ALL), (delete, ALL)],
)
@pytest.mark.parametrize("memory_limit", [None, 0], ids=["whole", "cached"])
def test_damage_is_found_when_read(
    noise_store: Path, damage: Callable[[Path], None], says: str, memory_limit: int | None
) -> None:
    store = open_store(noise_store)
    damage(noise_store)
    with pytest.raises(
        FanfoldError, match=says if memory_limit is None else r"chunk 20 in c/1/0/0/0.*damaged \("
    ) as caught:
        open_images(store, memory_limit).gather([40], [0])
    message = str(caught.value)
    assert message.startswith(f"{noise_store}: ")
    assert f"dataset.store={noise_store} overwrite=true`" in message
    assert "\n" not in message
    np.testing.assert_array_equal(store.read(0, 128).shape, (128, 1, 6, 8))  # the rest is readable


def test_a_reader_of_classes_finds_the_damaged_one_among_them(noise_store: Path) -> None:
    store = open_store(noise_store)
    flip_a_byte(noise_store)
    images = open_images(store, 0)
    images.gather([39, 42], [0, 0])
    with pytest.raises(FanfoldError, match="chunk 20"):
        images.gather([41], [0])


def test_verifying_reads_everything(noise_store: Path) -> None:
    verify_store(noise_store)
    flip_a_byte(noise_store)
    with pytest.raises(FanfoldError, match="chunk 20"):
        verify_store(noise_store)


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def other_schema(path: Path) -> None:
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    edit_json(path / "zarr.json", attributes=attributes | {"schema": 7})


def edit_attributes(path: Path, **changes: object) -> None:
    edit_json(path / "zarr.json", attributes=json.loads((path / "zarr.json").read_text())["attributes"] | changes)


def other_preprocessing(path: Path) -> None:
    """Even sealed anew: the digest tells."""
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    attributes["preprocessing"]["fit"] = "pad"
    edit_attributes(path, **(attributes | {"seal": seal(attributes)}))


def other_bounds(path: Path) -> None:
    first = zarr.open_group(path, mode="r+")["first"]
    first[1] = 3


def flip_a_name(path: Path) -> None:
    chunk = bytearray((path / "name/c/0").read_bytes())
    chunk[len(chunk) // 2] ^= 1
    (path / "name/c/0").write_bytes(chunk)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (delete, "incomplete: chunk c/1/0/0/0 of array images is missing"),
        (lambda path: (path / "checksum/c/0").unlink(), "incomplete: chunk c/0 of array checksum is missing"),
        (lambda path: (path / "group/c/0").unlink(), "incomplete: chunk c/0 of array group is missing"),
        (lambda path: shutil.rmtree(path / "checksum"), "incomplete: array checksum is missing"),
        (lambda path: (path / "images/zarr.json").write_text("{"), "the description of array images is damaged"),
        (lambda path: edit_json(path / "checksum/zarr.json", shape=[9]), "chunk c/0 of array checksum is missing"),
        (flip_a_name, "array name is damaged"),
        (lambda path: edit_json(path / "images/zarr.json", shape=[2**70, 1, 6, 8]), "damaged"),
        (lambda path: edit_attributes(path, dataset="omniglot"), "the attributes are not what they were"),
        (lambda path: edit_attributes(path, origin={"source": "elsewhere"}), "the attributes are not what they were"),
        (other_preprocessing, "its classes or checksums are not what they were"),
        (other_bounds, "its classes or checksums are not what they were"),
        (other_schema, "written in schema 7, not 2"),
    ],
)
def test_opening_finds_what_is_incomplete(noise_store: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(noise_store)
    with pytest.raises(FanfoldError, match=says) as caught:
        open_store(noise_store)
    message = str(caught.value)
    assert message.startswith(f"{noise_store}: ")
    assert "prepare it again with `prepare dataset.name=" in message
    assert "\n" not in message


def test_the_error_of_an_absent_store_names_the_settings_that_make_it(tmp_path: Path) -> None:
    path = tmp_path / "my stores" / "omniglot.zarr"
    with pytest.raises(FanfoldError, match="there is no such store") as caught:
        open_store(path, dataset="omniglot")
    assert f"`prepare dataset.name=omniglot 'dataset.store={path}'`" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", '{"zarr_format": 2}', '{"zarr_format": 3, "node_type": "group"}'])
def test_what_is_not_a_store_is_said_not_to_be(tmp_path: Path, content: str) -> None:
    (tmp_path / "zarr.json").write_text(content)
    with pytest.raises(FanfoldError, match="not a store of Fanfold's"):
        open_store(tmp_path)


def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "file.zarr").write_text("")
    with pytest.raises(FanfoldError, match="not a store of Fanfold's"):
        open_store(tmp_path / "file.zarr")
