from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.data.errors import FanfoldError
from fanfold.data.source import ClassName
from fanfold.data.splits import SPLITS, Split, few_classes, split_classes
from fanfold.data.store import Store, open_store, write_store
from tests.data.conftest import NoiseSource


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("splits") / "noise.zarr"
    write_store(path, NoiseSource(classes=3, size=(1, 1)), progress=False)
    return open_store(path)


def renamed(store: Store, names: list[ClassName]) -> Store:
    """A store with other classes; splits look at names and attributes alone."""
    return replace(store, dataset="folder", names=tuple(names))


def check_partition(split: Split, classes: int) -> None:
    """Disjoint parts; of few classes, the same validate and test."""
    parts = (split.train, split.test) if split.shared else (split.train, split.validation, split.test)
    for part in parts:
        assert part.dtype == np.int64
        assert len(part) > 0
        assert np.all(np.diff(part) > 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(classes))


def groups_of(store: Store, part: np.ndarray) -> set[str]:
    return {store.names[index].group for index in part}


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(2, 40), min_size=3, max_size=12))
def test_splits_of_any_data_set_are_partitions(small: Store, sizes: list[int]) -> None:
    names = [ClassName(f"group {a}", str(c)) for a, size in enumerate(sizes) for c in range(size)]
    store = renamed(small, names)
    for name in ("groups", "alphabets", "random:5", "random"):
        check_partition(split_classes(store, name), len(names))
    split = split_classes(store, "groups")
    held = [groups_of(store, part) for part in (split.train, split.validation, split.test)]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


def test_groups_come_near_their_shares(small: Store) -> None:
    names = [ClassName(f"group {a}", str(c)) for a in range(40) for c in range(10 + a % 5)]
    split = split_classes(renamed(small, names), "groups")
    assert len(split.test) / len(names) == pytest.approx(0.25, abs=0.02)
    assert len(split.validation) / len(names) == pytest.approx(0.08, abs=0.02)


def test_random_shares(small: Store) -> None:
    split = split_classes(renamed(small, [ClassName("one", str(c)) for c in range(100)]), "random")
    assert (len(split.train), len(split.validation), len(split.test)) == (70, 10, 20)
    assert split.test[:5].tolist() == [4, 10, 12, 21, 25]  # fixed for ever


def test_other_seeds_are_other_classes(small: Store) -> None:
    store = renamed(small, [ClassName("one", str(c)) for c in range(100)])
    found = [split_classes(store, name) for name in ("random", "random:70", "random:1")]
    assert [split.name for split in found] == ["random", "random:70", "random:1"]
    np.testing.assert_array_equal(found[0].test, found[1].test)
    assert found[0].test.tolist() != found[2].test.tolist()
    for wrong in ("random:", "random:x", "random:-1", "given:3", f"random:{2**64}"):
        with pytest.raises(FanfoldError, match=r"stands a seed|no split is given"):
            split_classes(store, wrong)


@pytest.mark.parametrize(("classes", "held"), [(4, 2), (7, 3), (10, 5), (20, 6), (44, 13)])
def test_few_classes_validate_and_test_on_the_same(small: Store, classes: int, held: int) -> None:
    split = split_classes(renamed(small, [ClassName("one", str(c)) for c in range(classes)]))
    assert split.shared
    assert (len(split.train), len(split.test)) == (classes - held, held)


def test_too_few_classes_say_what_can_be_done_instead(small: Store) -> None:
    with pytest.raises(FanfoldError, match=r": 3 classes can't be split, which takes four: train on another"):
        split_classes(renamed(small, [ClassName("one", str(c)) for c in range(3)]))
    told = [few_classes(renamed(small, [ClassName("one", str(c)) for c in range(count)])) for count in (1, 4, 11)]
    assert str(told[0]).startswith("1 class can't be split, which takes four: train on another data set")
    assert str(told[1]).startswith("4 classes are few to train and to test with: if the test is poor, train on another")
    assert told[2] is None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "validation", "test", "", "train"), ([0, 4], [1], [2])),
        (("train", "test", "test", "train", "train"), ([0, 3, 4], [1, 2], [1, 2])),
        (("train", "validation", "validation", "train", ""), ([0, 3], [1, 2], [1, 2])),
    ],
)
def test_a_given_split_comes_first(small: Store, parts: tuple[str, ...], expected: tuple[list[int], ...]) -> None:
    store = replace(renamed(small, [ClassName("one", str(c)) for c in range(5)]), splits=parts)
    split = split_classes(store)
    assert split.name == "given"
    assert tuple(part.tolist() for part in (split.train, split.validation, split.test)) == expected


def test_the_default_is_the_data_sets_own(small: Store) -> None:
    store = renamed(small, [ClassName("one", str(c)) for c in range(10)])
    assert split_classes(store).name == "random"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "vinyals",
            r"`dataset.split=vinyals`: doesn't fit .*noise\.zarr \(it is Omniglot's own\); choose one of random",
        ),
        ("groups", r"it needs three groups\); choose one of random$"),
        ("given", r"no split is given by folders, a table or `dataset.split_file`\); choose one of random$"),
        ("mine", r"`dataset.split=mine`: is not known; choose one of random$"),
    ],
)
def test_a_split_that_does_not_fit_names_those_that_do(small: Store, name: str, says: str) -> None:
    store = renamed(small, [ClassName(f"group {c % 2}", str(c)) for c in range(10)])
    with pytest.raises(FanfoldError, match=says):
        split_classes(store, name)


@pytest.mark.omniglot
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("random1200", (1100, 100, 423)), ("vinyals", (1028, 172, 423)), ("lake", (792, 172, 659))],
)
def test_omniglots_own_splits_have_the_published_sizes(
    omniglot_store: Path, name: str, sizes: tuple[int, int, int]
) -> None:
    split = split_classes(open_store(omniglot_store), name)
    check_partition(split, 1623)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


@pytest.mark.omniglot
def test_every_split_fits_omniglot(omniglot_store: Path) -> None:
    for name in set(SPLITS) - {"given"}:  # no file or folder gives one
        check_partition(split_classes(open_store(omniglot_store), name), 1623)


@pytest.mark.omniglot
def test_vinyals_divides_gurmukhi_and_no_other_alphabet(omniglot_store: Path) -> None:
    store = open_store(omniglot_store)
    split = split_classes(store, "vinyals")
    assert groups_of(store, split.train) & groups_of(store, split.test) == {"Gurmukhi"}
    tested = {store.names[index].name for index in split.test if store.names[index].group == "Gurmukhi"}
    assert tested == {"character42", "character43", "character44", "character45"}
    assert groups_of(store, split.validation) == {
        "Armenian",
        "Bengali",
        "Early_Aramaic",
        "Hebrew",
        "Mkhedruli_(Georgian)",
    }


@pytest.mark.omniglot
def test_lake_tests_the_evaluation_alphabets(omniglot_store: Path) -> None:
    store = open_store(omniglot_store)
    tested = groups_of(store, split_classes(store, "lake").test)
    assert len(tested) == 20
    assert {"Angelic", "ULOG", "Tengwar", "Gurmukhi"} <= tested


@pytest.mark.omniglot
def test_random1200_is_fixed_for_ever(omniglot_store: Path) -> None:
    split = split_classes(open_store(omniglot_store), "random1200")
    assert split.test[:5].tolist() == [11, 14, 16, 17, 20]
