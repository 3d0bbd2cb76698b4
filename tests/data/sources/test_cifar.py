"""CIFAR-FS from a small archive in CIFAR-100's format."""

import pickle
import tarfile
from io import BytesIO

import numpy as np
import pytest

from fanfold.data.datasets import CifarFs, find_store, prepare
from fanfold.data.errors import FanfoldError
from fanfold.data.images import open_images
from fanfold.data.sources.cifar import ARCHIVE, FOLDER, TEST, VALIDATION, cifar_source
from fanfold.data.splits import split_classes
from fanfold.data.store import open_store

FINE = ["apple", "whale", "otter", "pear"]
COARSE = ["fruit", "aquatic_mammals"]
GROUP = [0, 1, 1, 0]


@pytest.fixture(scope="module")
def parts():
    """Three pictures of each class in the training part, two in the test part, not in order."""
    random, found = np.random.default_rng(0), {}
    for name, each in (("train", 3), ("test", 2)):
        labels = random.permutation(np.repeat(np.arange(4), each))
        found[name] = {
            b"data": random.integers(0, 256, (len(labels), 3 * 32 * 32), dtype=np.uint8),
            b"fine_labels": labels.tolist(),
            b"coarse_labels": [GROUP[label] for label in labels],
            b"filenames": [b"%s_%d.png" % (FINE[label].encode(), number) for number, label in enumerate(labels)],
        }
    names = {b"fine_label_names": FINE, b"coarse_label_names": COARSE}
    return {"meta": {key: [name.encode() for name in value] for key, value in names.items()}, **found}


def write(place, parts):
    with tarfile.open(place / ARCHIVE, "w:gz") as archive:
        for name, content in parts.items():
            packed = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(packed)
            archive.addfile(entry, BytesIO(packed))
    return place


def test_the_split_is_bertinettos():
    assert (len(set(VALIDATION)), len(set(TEST)), len({*VALIDATION, *TEST})) == (16, 20, 36)


def test_an_archive_becomes_a_store_with_both_parts_pictures_as_they_are(parts, tmp_path):
    dataset = CifarFs(source=str(write(tmp_path, parts)), store=str(tmp_path / "s.zarr"))
    assert prepare(dataset, progress=False).dataset == "cifar-fs"
    store = open_store(find_store(dataset).path)
    assert store.title == "cifar-fs"
    assert store.names == (
        *(("aquatic_mammals", "otter"), ("aquatic_mammals", "whale"), ("fruit", "apple"), ("fruit", "pear")),
    )
    images = open_images(store)
    assert images.counts.tolist() == [5, 5, 5, 5]
    whales = [
        part[b"data"][place].reshape(3, 32, 32)
        for part in (parts["train"], parts["test"])
        for place, label in enumerate(part[b"fine_labels"])
        if label == 1
    ]
    assert np.array_equal(images.gather(np.full(5, 1), np.arange(5)), np.stack(whales))
    split = split_classes(store)
    assert split.name == "given"
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([2, 3], [0], [1])


def test_the_unpacked_folder_is_the_same(parts, tmp_path):
    with tarfile.open(write(tmp_path, parts) / ARCHIVE) as archive:
        archive.extractall(tmp_path / "other", filter="data")
    packed, unpacked = (cifar_source(place) for place in (tmp_path / ARCHIVE, tmp_path / "other" / FOLDER))
    assert packed.names == unpacked.names == cifar_source(tmp_path / "other").names
    assert np.array_equal(packed.read(2, 0, 1)[0], unpacked.read(2, 0, 1)[0])


class Calls:
    def __reduce__(self):
        return print, ("called",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": pickle.dumps(Calls())}, "it would call builtins.print"),
        ({"train": b"nothing"}, "not CIFAR-100 for Python"),
        ({"test": {b"data": np.zeros((1, 3072), np.uint8)}}, "not CIFAR-100 for Python"),
        ({"meta": {}}, "not CIFAR-100 for Python .*fine_label_names"),
        ({b"data": np.full((10, 3072), 300)}, "data are no array of uint8"),
        ({b"fine_labels": [-1] * 8}, "a label is no number from 0 to 3"),
    ],
)
def test_anything_else_is_refused_in_one_line_and_nothing_is_called(parts, tmp_path, capsys, change, message):
    if not set(change) <= set(parts):
        change = {"test": {**parts["test"], **change}}
    with pytest.raises(FanfoldError, match=message) as caught:
        cifar_source(write(tmp_path, {**parts, **change}))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_no_bit_of_an_archive_changes_unseen(parts, tmp_path):
    (tmp_path / "packed").mkdir()
    content = (write(tmp_path / "packed", parts) / ARCHIVE).read_bytes()
    for place in range(50, len(content), len(content) // 40):  # after the header, which has a name
        (tmp_path / ARCHIVE).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(FanfoldError, match="not CIFAR-100 for Python"):
            cifar_source(tmp_path)


def test_a_pickle_that_says_it_holds_more_than_memory_is_refused_at_once(parts, tmp_path):
    bomb = b"\x80\x02}r\xff\xff\xff\x7f."  # a place for the 2,147,483,647th object
    assert cifar_source(write(tmp_path, parts)).names
    with pytest.raises(FanfoldError, match="fine_label_names"):
        cifar_source(write(tmp_path, {**parts, "meta": bomb}))


def test_half_a_pair_of_surrogates_in_a_name_becomes_text(parts, tmp_path):
    names = {"fine_label_names": ["\ud800", *FINE[1:]], "coarse_label_names": COARSE}
    assert ("fruit", "\\ud800") in cifar_source(write(tmp_path, {**parts, "meta": names})).names


def test_a_folder_without_it_is_told(tmp_path):
    with pytest.raises(FanfoldError, match=f"holds no {ARCHIVE}"):
        cifar_source(tmp_path)


def test_what_can_not_be_downloaded_is_told(no_network, tmp_path):
    with pytest.raises(FanfoldError, match=r"CIFAR-100 could not be downloaded .* with `dataset.source`"):
        prepare(CifarFs(store=str(tmp_path / "s.zarr")), progress=False)
