"""Splits: which classes train, which validate and which test.

A split depends on the store and on fixed seeds, never on the run's seed: its name stands for the same classes in every
run. Shuffles are argsorts of Philox's raw output, which NumPy keeps the same in all versions.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fanfold.data.advice import in_fields
from fanfold.data.errors import FanfoldError
from fanfold.data.source import ClassName
from fanfold.data.sources.omniglot import CHARACTERS
from fanfold.data.store import Store

_RANDOM1200_SEED = 1200
_ALPHABETS_SEED = 50
_RANDOM_SEED = 70

_VINYALS_VALIDATION = frozenset({"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"})
_VINYALS_TEST = frozenset(
    {
        *("Kannada", "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya"),
        *("Sylheti", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG"),
    }
)
_VINYALS_TEST_CHARACTERS = frozenset(ClassName("Gurmukhi", f"character{number}") for number in range(42, 46))


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of classes, by their sorted numbers."""

    name: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]  # they choose among checkpoints and settings
    test: NDArray[np.int64]


def split_classes(store: Store, name: str | None = None) -> Split:
    """Split a store's classes by one of `SPLITS`; by default the data set's own, see `DEFAULT_SPLITS`.

    Raises:
        FanfoldError: There is no such split, or it doesn't fit the store; the fitting ones are named.
    """
    name = DEFAULT_SPLITS.get(store.dataset, "random") if name is None else name
    fitting = [known for known, rule in SPLITS.items() if rule.fits(store)]
    if name not in fitting:
        problem = f"doesn't fit {store.path} ({SPLITS[name].needs})" if name in SPLITS else "is not known"
        choice = f"choose one of {', '.join(fitting)}" if fitting else "and it has too few classes for any other"
        raise FanfoldError(f"{in_fields({'dataset.split': name})}: {problem}; {choice}")
    return SPLITS[name].split(store)


class Rule(NamedTuple):
    """A way to split classes: its needs in words, the check of a store for them, and the split."""

    needs: str
    fits: Callable[[Store], bool]
    split: Callable[[Store], Split]


def _is_omniglot(store: Store) -> bool:
    return store.dataset == "omniglot" and len(store.names) == sum(CHARACTERS.values())


def _random1200(store: Store) -> Split:
    """1,100 / 100 / 423 characters at random: the sizes of Finn, Abbeel and Levine 2017."""
    return _cut("random1200", _shuffled(len(store.names), _RANDOM1200_SEED), 1100, 100)


def _vinyals(store: Store) -> Split:
    """1,028 / 172 / 423 characters by alphabet: Vinyals et al. 2016, as distributed by Snell et al. 2017."""
    test = np.array([name.alphabet in _VINYALS_TEST or name in _VINYALS_TEST_CHARACTERS for name in store.names])
    return _by_mask("vinyals", validation=_in_alphabets(store, _VINYALS_VALIDATION), test=test)


def _lake(store: Store) -> Split:
    """The background alphabets train, the evaluation alphabets test: Lake, Salakhutdinov and Tenenbaum 2015.

    They have no validation set; the five alphabets that validate in `vinyals` are taken out of the background.
    """
    background = store.attributes["background_alphabets"]
    assert isinstance(background, list)
    test = ~_in_alphabets(store, frozenset(map(str, background)))
    return _by_mask("lake", validation=_in_alphabets(store, _VINYALS_VALIDATION), test=test)


def _alphabets(store: Store) -> Split:
    """Whole alphabets are held out: about 25 % of the classes test and 8 % validate, at least one alphabet each."""
    classes = Counter(name.alphabet for name in store.names)
    order = [sorted(classes)[place] for place in _shuffled(len(classes), _ALPHABETS_SEED)]
    test = _take(order, classes, share=0.25 * len(store.names), leave=2)
    rest = [alphabet for alphabet in order if alphabet not in test]
    validation = _take(rest, classes, share=0.08 * len(store.names), leave=1)
    return _by_mask("alphabets", validation=_in_alphabets(store, validation), test=_in_alphabets(store, test))


def _random(store: Store) -> Split:
    """70 / 10 / 20 % of the classes at random, at least one each."""
    classes = len(store.names)
    test, validation = max(1, round(0.2 * classes)), max(1, round(0.1 * classes))
    return _cut("random", _shuffled(classes, _RANDOM_SEED), classes - validation - test, validation)


SPLITS: dict[str, Rule] = {
    "random1200": Rule("it is Omniglot's own", _is_omniglot, _random1200),
    "vinyals": Rule("it is Omniglot's own", _is_omniglot, _vinyals),
    "lake": Rule("it is Omniglot's own", lambda store: _is_omniglot(store) and _knows_background(store), _lake),
    "alphabets": Rule("it needs three alphabets", lambda store: len(store.alphabets) >= 3, _alphabets),
    "random": Rule("it needs three classes", lambda store: len(store.names) >= 3, _random),
}
"""Every split by its name."""

DEFAULT_SPLITS = {"omniglot": "random1200", "glyphs": "alphabets", "folder": "random"}
"""The default split of each data set."""


def _knows_background(store: Store) -> bool:
    return "background_alphabets" in store.attributes


def _shuffled(count: int, seed: int) -> NDArray[np.int64]:
    return np.argsort(np.random.Philox(key=seed).random_raw(count), kind="stable")


def _cut(name: str, order: NDArray[np.int64], train: int, validation: int) -> Split:
    """Split an order of classes: the first to train, the next to validate, the rest to test."""
    parts = np.split(order, [train, train + validation])
    return Split(name, *map(np.sort, parts))


def _by_mask(name: str, *, validation: NDArray[np.bool], test: NDArray[np.bool]) -> Split:
    return Split(name, *(np.flatnonzero(mask) for mask in (~(validation | test), validation, test)))


def _in_alphabets(store: Store, alphabets: frozenset[str]) -> NDArray[np.bool]:
    return np.array([name.alphabet in alphabets for name in store.names])


def _take(order: list[str], classes: Counter[str], *, share: float, leave: int) -> frozenset[str]:
    """Alphabets, in order, while each brings the number of classes nearer to the share; at least the smallest one."""
    taken: list[str] = []
    count = 0
    for alphabet in order:
        if len(order) - len(taken) > leave and count + classes[alphabet] / 2 <= share:
            taken.append(alphabet)
            count += classes[alphabet]
    return frozenset(taken or [min(order, key=lambda alphabet: classes[alphabet])])
