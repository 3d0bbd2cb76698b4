"""Draw the classes and images of a task from the task's number.

A task (an *episode*) has `ways` classes. Each class has `shots` images to learn from (the support set) and `queries`
images to test with (the query set).

Randomness comes from a counter-based generator (Philox, Salmon et al. 2011), keyed by seed and stream. Task number n
reads the n-th section of its random words. Every worker therefore draws the same task n, without drawing those before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError

PHILOX_WORDS = 4  # random words of one step of Philox4x64
BATCH_WORDS = 2**17  # random words of a batch: few enough for intermediate results to stay in a core's cache
FEW = 5  # a part of a split with fewer classes is of a small data set
AUGMENTATIONS = ("flip", "crop", "colour")
LEAST = {"ways": 2, "shots": 1, "queries": 1}
FOLLOWING = {"task": "`task.ways=auto` and `task.queries=auto`", "train": "`train.ways=many` and `train.queries=auto`"}
"""Settings by which a section's counts follow the data."""


class Stream(IntEnum):
    """Independent sequences of tasks: no two share a random word."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    POPULATION = 3


@dataclass(frozen=True)
class EpisodeShape:
    """The shape of a task, and its augmentation.

    Args:
        ways: Classes in a task.
        shots: Support images of each class.
        queries: Query images of each class.
        rotations: Rotate every class of a task by a random multiple of 90°. Each class of the store then stands for
            four classes, never for two of the same task (the protocol of MAML, Finn et al. 2017).
        reflections: Mirror a random half of the classes before they are rotated, which doubles their number again.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 1
    rotations: bool = False
    reflections: bool = False

    def __post_init__(self) -> None:
        check_counts("task", {name: getattr(self, name) for name in LEAST})


@dataclass(frozen=True)
class Episodes:
    """Tasks as indices into a store, without images.

    Args:
        classes: int64 `[tasks, ways]`, indices into the store's classes.
        rotations: int64 `[tasks, ways]`, counter-clockwise rotations in units of 90°.
        reflections: bool `[tasks, ways]`, whether a class is mirrored left to right before it is rotated.
        pictures: int64 `[tasks, ways, shots + queries]`, indices into each class's pictures, support before queries.
    """

    classes: NDArray[np.int64]
    rotations: NDArray[np.int64]
    reflections: NDArray[np.bool_]
    pictures: NDArray[np.int64]


def check_seed(seed: int) -> None:
    """Raise FanfoldError unless the generator can take the seed."""
    if not 0 <= seed < 2**64:
        raise FanfoldError(f"`seed` must be from 0 to 2⁶⁴ - 1, not {seed}.")


def check_augment(augment: str | None) -> None:
    """Raise FanfoldError unless it is some of `AUGMENTATIONS` with commas between them, or None."""
    kinds = [] if augment is None else augment.split(",")
    if len(set(kinds)) < len(kinds) or not set(kinds) <= set(AUGMENTATIONS):
        raise FanfoldError(
            f"`train.augment` must be some of {', '.join(AUGMENTATIONS)} with commas between them, not "
            f"{str(augment)[:100]!r}: leave it out for none."
        )


def check_counts(section: str, counts: Mapping[str, int | None]) -> None:
    """Raise FanfoldError where a task has too few ways, shots or queries; a count that is None is not checked.

    The counts are from a section of the configuration, `task` or `train`.
    """
    for name, count in counts.items():
        if count is not None and count < LEAST[name]:
            raise FanfoldError(f"`{section}.{name}` must be at least {LEAST[name]}, not {count}.")


def large_enough(shape: EpisodeShape, classes: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some classes that have enough pictures for tasks of a shape; arguments are those of `draw_ranges`."""
    return classes[counts[classes] >= shape.shots + shape.queries]


def check_episode_shapes(
    shapes: Mapping[Stream, EpisodeShape], classes: Mapping[Stream, NDArray[np.int64]], counts: NDArray[np.int64]
) -> None:
    """Raise FanfoldError unless tasks of the shapes can be drawn; where several counts don't fit, with what mends all.

    Arguments are those of `check_episode_shape`, by stream.
    """
    found: dict[tuple[int, ...], list[str]] = {}  # by counts: streams of the same counts have the same problem
    for stream, shape in shapes.items():
        asked = (shape.ways, shape.shots, shape.queries)
        found[asked] = found.get(asked) or _misfits(stream, shape, classes[stream], counts)
    if problems := list(chain(*found.values())):
        follow = ", ".join(FOLLOWING[section] for section in dict.fromkeys(map(section_of, shapes)))
        more = f" Other counts don't fit, either: {follow} follow the data." if len(problems) > 1 else ""
        raise FanfoldError(problems[0] + more)


def check_episode_shape(
    stream: Stream, shape: EpisodeShape, classes: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Raise FanfoldError unless tasks of a shape can be drawn from the `large_enough` ones of some classes."""
    if problems := _misfits(stream, shape, classes, counts):
        raise FanfoldError(problems[0])


def _misfits(stream: Stream, shape: EpisodeShape, classes: NDArray[np.int64], counts: NDArray[np.int64]) -> list[str]:
    """Why tasks of a shape can't be drawn: too many ways, too few pictures for as many ways as there are."""
    problems = []
    if shape.ways > len(classes):
        problems.append(_too_many_ways(stream, shape, classes))
        shape = replace(shape, ways=max(len(classes), LEAST["ways"]))
    if shape.ways <= len(classes) and (too_few := _too_few_pictures(stream, shape, classes, counts)):
        problems.append(too_few)
    return problems


def section_of(stream: Stream) -> str:
    """The section of the configuration that says what a stream's tasks are like."""
    return "train" if stream in (Stream.TRAIN, Stream.POPULATION) else "task"


def _too_many_ways(stream: Stream, shape: EpisodeShape, classes: NDArray[np.int64]) -> str:
    section, number = section_of(stream), f"the number of {stream.name.lower()} classes of the split"
    if LEAST["ways"] <= len(classes) < FEW:
        return (
            f"Add `{section}.ways={len(classes)}`, {number}, as {shape.ways} are too many; for more ways train on "
            "another data set, and label these pictures by `classify`."
        )
    return f"`{section}.ways` must be at most {len(classes)}, {number}, not {shape.ways}."


def _too_few_pictures(
    stream: Stream, shape: EpisodeShape, classes: NDArray[np.int64], counts: NDArray[np.int64]
) -> str | None:
    images = shape.shots + shape.queries
    able = len(large_enough(shape, classes, counts))
    if able >= shape.ways:
        return None
    most = int(np.sort(counts[classes])[-shape.ways])
    least = LEAST["shots"] + LEAST["queries"]
    if most < least:
        able = int((counts[classes] >= least).sum())
        return (
            f"{_few(able, stream, classes).capitalize()} {least} pictures or more, and a task needs {shape.ways}: "
            "add pictures; or train on another data set, and label these pictures by `classify`."
        )
    section = section_of(stream)
    fewer = f", or `{section}.ways` be at most {able}" if able >= LEAST["ways"] else ""
    return (
        f"`{section}.shots` and `{section}.queries` must add up to at most {most}, not to {images}{fewer}: "
        f"{_few(able, stream, classes)} so many pictures, and a task needs {shape.ways}."
    )


def _few(able: int, stream: Stream, classes: NDArray[np.int64]) -> str:
    """How few classes have something, for a message: "only 1 of the 5 test classes has"."""
    of_all = f"of the {len(classes)} {stream.name.lower()} classes"
    return f"none {of_all} has" if able == 0 else f"only {able} {of_all} {'has' if able == 1 else 'have'}"


def check_rotations(shape: EpisodeShape, size: tuple[int, int]) -> None:
    """Raise FanfoldError where tasks rotate images whose height is not their width."""
    height, width = size
    if shape.rotations and height != width:
        raise FanfoldError(
            f"Images of {height} × {width} pixels can't be rotated by 90°: set `train.rotations` and `task.rotations` "
            "to false, or prepare square images."
        )


def draw_episodes(
    seed: int,
    stream: Stream,
    first: int,
    last: int,
    shape: EpisodeShape,
    classes: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> Episodes:
    """Draw the tasks numbered `first` up to, not including, `last`; see `draw_ranges`."""
    return draw_ranges(seed, stream, [(first, last)], shape, classes, counts)


def draw_ranges(
    seed: int,
    stream: Stream,
    ranges: Sequence[tuple[int, int]],
    shape: EpisodeShape,
    classes: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> Episodes:
    """Draw the tasks of several ranges of numbers, one range after another. Many ranges take little longer than one.

    Args:
        seed: The run's seed, 0 to 2⁶⁴ - 1.
        stream: The stream of the tasks.
        ranges: The numbers of the first task and, exclusive, the last task of each range.
        shape: The shape of a task.
        classes: int64, the classes to draw from, indices into the store's classes.
        counts: int64, the number of pictures of each class of the store.

    Returns:
        The tasks. Task n does not depend on the ranges.
    """
    tasks, ways, images = sum(last - first for first, last in ranges), shape.ways, shape.shots + shape.queries
    episodes = Episodes(
        classes=np.empty((tasks, ways), np.int64),
        rotations=np.zeros((tasks, ways), np.int64),
        reflections=np.zeros((tasks, ways), np.bool_),
        pictures=np.empty((tasks, ways, images), np.int64),
    )
    needed = ways * (2 + images)
    steps = -(-needed // PHILOX_WORDS)
    begin = 0
    for words in _words(seed, stream, ranges, steps):
        end = begin + len(words)
        # Tasks are the last axis: every operation is vectorized over them.
        for_classes, for_symmetries, for_images = np.split(words.T[:needed], [ways, 2 * ways])
        chosen = classes[_without_replacement(for_classes, np.int64(len(classes)))]
        episodes.classes[begin:end] = chosen.T
        # The upper two bits of a word are the rotation. The next bit is independent of them: 0 is a reflection.
        if shape.rotations:
            episodes.rotations[begin:end] = (for_symmetries >> np.uint64(62)).T
        if shape.reflections:
            episodes.reflections[begin:end] = (for_symmetries >> np.uint64(61) & np.uint64(1) == 0).T
        by_image = for_images.reshape(ways, images, -1).swapaxes(0, 1)
        episodes.pictures[begin:end] = _without_replacement(by_image, counts[chosen]).T
        begin = end
    return episodes


def _words(seed: int, stream: Stream, ranges: Sequence[tuple[int, int]], steps: int) -> Iterator[NDArray[np.uint64]]:
    """The random words of the tasks in some ranges, in batches `[tasks, steps · PHILOX_WORDS]`."""
    generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    words = steps * PHILOX_WORDS
    batch = -(-BATCH_WORDS // words)
    position, parts, tasks = 0, [], 0
    for first, last in ranges:
        generator.advance((first - position) * steps)
        for begin in range(first, last, batch):
            end = min(begin + batch, last)
            parts.append(generator.random_raw((end - begin) * words))
            tasks += end - begin
            if tasks >= batch:
                yield np.concatenate(parts).reshape(tasks, words)
                parts, tasks = [], 0
        position = last
    if parts:
        yield np.concatenate(parts).reshape(tasks, words)


def _without_replacement(words: NDArray[np.uint64], size: NDArray[np.int64] | np.int64) -> NDArray[np.int32]:
    """The first k entries of Fisher-Yates shuffles of 0 … size - 1, vectorized over shuffles.

    Args:
        words: uint64 `[k, …]`, random; the 53 upper bits of each are used, as a fraction.
        size: The size of every shuffle, or of each, `[…]`; at least k.

    Returns:
        int32 `[k, …]`, distinct along the first axis.
    """
    chosen = np.empty(words.shape, np.int32)
    for place, word in enumerate(words):
        chosen[place] = (word >> np.uint64(11)) * ((size - place) * 2.0**-53)
        chosen[place] += place
    # Step i swaps entries i and chosen[i] ≥ i. The array 0 … size - 1 is never laid out. Each entry is followed back
    # through the earlier swaps, from the latest to the first: an entry that swap j moved to chosen[j] came from j. The
    # mask is a factor, as masked assignment takes longer the more entries it selects.
    for place in range(len(words) - 2, -1, -1):
        later = chosen[place + 1 :]
        later -= (later == chosen[place]) * (chosen[place] - np.int32(place))
    return chosen
