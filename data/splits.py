"""Splits: which classes train, which validate and which test.

A split depends on the store and on fixed seeds, never on the run's seed: its name stands for the same classes in every
run. Those that draw take another seed after a colon, as in `random:3`. Shuffles are argsorts of Philox's raw output,
which NumPy keeps the same in all versions.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fanfold.data.advice import counted, in_fields
from fanfold.data.errors import FanfoldError
from fanfold.data.schema import PARTS, is_split
from fanfold.data.source import ClassName
from fanfold.data.sources.omniglot import CHARACTERS
from fanfold.data.store import Store

_RANDOM1200_SEED = 1200
_GROUPS_SEED = 50
_RANDOM_SEED = 70

_VINYALS_VALIDATION = frozenset({"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"})
_VINYALS_TEST = frozenset(
    {
        *("Kannada", "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya"),
        *("Sylheti", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG"),
    }
)
_VINYALS_TEST_CHARACTERS = frozenset(ClassName("Gurmukhi", f"character{number}") for number in range(42, 46))


ALL = "all"
"""The split whose classes all test: of data that nothing was trained on."""

FEW_CLASSES = 10
"""A data set of at most so many classes is told to be small."""

LEAST_HELD_OUT = 5
"""Classes that validate, at least; where there are fewer, the same classes validate and test."""


@dataclass(frozen=True, eq=False)
class Split:
    """Sets of classes, by their sorted numbers: disjoint, but for small data sets, where the same validate and test."""

    name: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]  # they choose among checkpoints and settings
    test: NDArray[np.int64]

    @property
    def shared(self) -> bool:
        """Whether the same classes validate and test."""
        return np.array_equal(self.validation, self.test)

    def __str__(self) -> str:
        """The sizes in words: "random: 57 classes train, 8 validate and 16 test"."""
        held = f"the same {len(self.test):,} validate and test"
        apart = f"{len(self.validation):,} validate and {len(self.test):,} test"
        return f"{self.name}: {len(self.train):,} classes train, {held if self.shared else apart}"


def split_classes(store: Store, name: str | None = None) -> Split:
    """Split a store's classes by one of `SPLITS`, or `ALL`; by default the given one, or the data set's own.

    Raises:
        FanfoldError: There is no such split, or it doesn't fit the store; the fitting ones are named.
    """
    name = default_split(store) if name is None else name
    if name == ALL:
        return Split(ALL, *np.split(np.arange(len(store.names)), [0, 0]))
    kind, colon, seed = name.partition(":")
    other = "groups" if store.preprocessing.handwriting else "alphabets"  # the same by another word
    fitting = [
        known for known, rule in SPLITS.items() if rule.fits(store) and known in (kind, *(set(SPLITS) - {other}))
    ]
    if not fitting:
        raise FanfoldError(f"{store.path}: {few_classes(store)}.")
    if kind not in fitting:
        problem = f"doesn't fit {store.path} ({SPLITS[kind].needs})" if kind in SPLITS else "is not known"
        raise FanfoldError(f"{in_fields({'dataset.split': name})}: {problem}; choose one of {', '.join(fitting)}")
    rule = SPLITS[kind]
    if not colon:
        return rule.split(store, rule.seed)
    if rule.seed is None or not (seed.isdecimal() and int(seed) < 2**64):
        drawing = " or ".join(f"{known}:" for known in fitting if SPLITS[known].seed is not None)
        raise FanfoldError(f"{in_fields({'dataset.split': name})}: after {drawing} stands a seed.")
    return replace(rule.split(store, int(seed)), name=name)


def few_classes(store: Store) -> str | None:
    """What can be done with a store of few classes, without a full stop; None where there are more."""
    if (classes := len(store.names)) > FEW_CLASSES:
        return None
    instead = "train on another data set, or take a run of somebody's, and label these pictures by `classify`"
    if SPLITS["random"].fits(store) or _has_given(store):
        return f"{classes} classes are few to train and to test with: if the test is poor, {instead}"
    return f"{counted(classes, 'class')} can't be split, which takes four: {instead}"


def default_split(store: Store) -> str:
    """The split that is given with the classes, if there is one, otherwise the data set's own."""
    return "given" if _has_given(store) else DEFAULT_SPLITS.get(store.dataset, "random")


class Rule(NamedTuple):
    """A way to split classes: its needs in words, the check of a store for them, and the split."""

    needs: str
    fits: Callable[[Store], bool]
    split: Callable[[Store, int | None], Split]
    seed: int | None = None  # where it draws


def _is_omniglot(store: Store) -> bool:
    return store.dataset == "omniglot" and len(store.names) == sum(CHARACTERS.values())


def _random1200(store: Store, seed: int | None) -> Split:
    """1,100 / 100 / 423 characters at random: the sizes of Finn, Abbeel and Levine 2017."""
    return _cut("random1200", _shuffled(len(store.names), seed), 1100, 100)


def _vinyals(store: Store, seed: int | None) -> Split:
    """1,028 / 172 / 423 characters by alphabet: Vinyals et al. 2016, as distributed by Snell et al. 2017."""
    test = np.array([name.group in _VINYALS_TEST or name in _VINYALS_TEST_CHARACTERS for name in store.names])
    return _by_mask("vinyals", validation=_in_groups(store, _VINYALS_VALIDATION), test=test)


def _lake(store: Store, seed: int | None) -> Split:
    """The background alphabets train, the evaluation alphabets test: Lake, Salakhutdinov and Tenenbaum 2015.

    They have no validation set; the five alphabets that validate in `vinyals` are taken out of the background.
    """
    background = store.attributes["background_alphabets"]
    assert isinstance(background, list)
    test = ~_in_groups(store, frozenset(map(str, background)))
    return _by_mask("lake", validation=_in_groups(store, _VINYALS_VALIDATION), test=test)


def _groups(store: Store, seed: int | None) -> Split:
    """Whole groups are held out: about 25 % of the classes test and 8 % validate, at least one group each."""
    classes = Counter(name.group for name in store.names)
    order = [sorted(classes)[place] for place in _shuffled(len(classes), seed)]
    test = _take(order, classes, share=0.25 * len(store.names), leave=2)
    rest = [group for group in order if group not in test]
    validation = _take(rest, classes, share=0.08 * len(store.names), leave=1)
    return _by_mask("groups", validation=_in_groups(store, validation), test=_in_groups(store, test))


def _alphabets(store: Store, seed: int | None) -> Split:
    return replace(_groups(store, seed), name="alphabets")


def _random(store: Store, seed: int | None) -> Split:
    """70 / 10 / 20 % of the classes at random; of few classes 30 %, or five, are held out, and validate and test."""
    classes = len(store.names)
    order = _shuffled(classes, seed)
    test, validation = round(0.2 * classes), round(0.1 * classes)
    if validation >= LEAST_HELD_OUT:
        return _cut("random", order, classes - validation - test, validation)
    held = max(round(0.3 * classes), min(LEAST_HELD_OUT, classes // 2))
    train, rest = np.sort(order[: classes - held]), np.sort(order[classes - held :])
    return Split("random", train, rest, rest)


def _given(store: Store, seed: int | None) -> Split:
    """The parts that stand in folders, a table or a split file; where one is absent, the same validate and test."""
    parts = {part: np.flatnonzero([split == part for split in store.splits]) for part in PARTS}
    validation = parts["validation"] if len(parts["validation"]) else parts["test"]
    return Split("given", parts["train"], validation, parts["test"] if len(parts["test"]) else validation)


def _has_given(store: Store) -> bool:
    return is_split(store.splits)


SPLITS: dict[str, Rule] = {
    "random1200": Rule("it is Omniglot's own", _is_omniglot, _random1200, _RANDOM1200_SEED),
    "vinyals": Rule("it is Omniglot's own", _is_omniglot, _vinyals),
    "lake": Rule("it is Omniglot's own", lambda store: _is_omniglot(store) and _knows_background(store), _lake),
    "given": Rule("no split is given by folders, a table or `dataset.split_file`", _has_given, _given),
    "groups": Rule("it needs three groups", lambda store: len(store.groups) >= 3, _groups, _GROUPS_SEED),
    "alphabets": Rule("it needs three alphabets", lambda store: len(store.groups) >= 3, _alphabets, _GROUPS_SEED),
    "random": Rule("it needs four classes", lambda store: len(store.names) >= 4, _random, _RANDOM_SEED),
}
"""Every split by its name; alphabets are handwriting's groups."""

DEFAULT_SPLITS = {"omniglot": "random1200", "glyphs": "alphabets", "cifar-fs": "given", "folder": "random"}
"""The default split of each data set."""


def _knows_background(store: Store) -> bool:
    return "background_alphabets" in store.attributes


def _shuffled(count: int, seed: int | None) -> NDArray[np.int64]:
    return np.argsort(np.random.Philox(key=seed).random_raw(count), kind="stable")


def _cut(name: str, order: NDArray[np.int64], train: int, validation: int) -> Split:
    """Split an order of classes: the first to train, the next to validate, the rest to test."""
    parts = np.split(order, [train, train + validation])
    return Split(name, *map(np.sort, parts))


def _by_mask(name: str, *, validation: NDArray[np.bool], test: NDArray[np.bool]) -> Split:
    return Split(name, *(np.flatnonzero(mask) for mask in (~(validation | test), validation, test)))


def _in_groups(store: Store, groups: frozenset[str]) -> NDArray[np.bool]:
    return np.array([name.group in groups for name in store.names])


def _take(order: list[str], classes: Counter[str], *, share: float, leave: int) -> frozenset[str]:
    """Groups, in order, while each brings the number of classes nearer to the share; at least the smallest one."""
    taken: list[str] = []
    count = 0
    for group in order:
        if len(order) - len(taken) > leave and count + classes[group] / 2 <= share:
            taken.append(group)
            count += classes[group]
    return frozenset(taken or [min(order, key=lambda group: classes[group])])
