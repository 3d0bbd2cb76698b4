"""Which classes and drawings make up a task, from the task's number alone.

A task (an *episode*) has `ways` classes; of each, `shots` drawings to learn from (the support set) and `queries`
drawings to be judged by (the query set). Task number n of a stream takes the n-th stretch of random words of a
counter-based generator (Philox, Salmon et al. 2011) keyed by seed and stream, so that any worker draws any task
at once, and the same one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError

WORDS_A_BLOCK = 4  # Philox4x64 makes four words for every step of its counter
WORDS_A_SLAB = 2**17  # drawn from at a time: what is made of them on the way stays in a core's cache


class Stream(IntEnum):
    """Sequences of tasks that never share a random word."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    POPULATION = 3


@dataclass(frozen=True)
class EpisodeShape:
    """What a task is made of.

    Args:
        ways: Classes in a task.
        shots: Support drawings of each class.
        queries: Query drawings of each class.
        rotations: Turn every class of a task by a multiple of 90° of its own, which makes four classes of each
            character; a task never holds one character twice (the protocol of MAML, Finn et al. 2017).
        reflections: Mirror half of a task's classes, before they are turned: twice as many classes again.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 1
    rotations: bool = False
    reflections: bool = False

    def __post_init__(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1)):
            if getattr(self, name) < least:
                raise FanfoldError(f"A task needs {name} of at least {least}, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Episodes:
    """Tasks as numbers; no images.

    Args:
        classes: int64 `[tasks, ways]`, indices into the store's classes.
        rotations: int64 `[tasks, ways]`, quarter turns counter-clockwise.
        reflections: bool `[tasks, ways]`, whether mirrored, left to right, before that.
        drawings: int64 `[tasks, ways, shots + queries]`, indices into each class's drawings, support first.
    """

    classes: NDArray[np.int64]
    rotations: NDArray[np.int64]
    reflections: NDArray[np.bool_]
    drawings: NDArray[np.int64]


def check_seed(seed: int) -> None:
    """Raise FanfoldError unless the seed is one that the generator takes."""
    if not 0 <= seed < 2**64:
        raise FanfoldError(f"--seed must be from 0 to 2⁶⁴ - 1, not {seed}.")


def check_episode_shape(
    stream: Stream, shape: EpisodeShape, classes: NDArray[np.int64], drawings: NDArray[np.int64]
) -> None:
    """Raise FanfoldError unless tasks of this shape can be drawn.

    Args:
        stream: The sequence that the tasks belong to, for the message.
        shape: What a task is made of.
        classes: The classes to draw from, indices into the store.
        drawings: How many drawings each class of the store has.
    """
    if shape.ways > len(classes):
        raise FanfoldError(
            f"{shape.ways} ways, but the split has {len(classes)} {stream.name.lower()} classes: ask for fewer ways."
        )
    fewest = int(drawings[classes].min())
    if shape.shots + shape.queries > fewest:
        raise FanfoldError(
            f"{shape.shots} shots and {shape.queries} queries need {shape.shots + shape.queries} drawings of each "
            f"class, but one has only {fewest}: ask for fewer shots or queries."
        )


def check_turns(shape: EpisodeShape, size: tuple[int, int]) -> None:
    """Raise FanfoldError unless images of this height and width can be turned as the tasks ask for."""
    height, width = size
    if shape.rotations and height != width:
        raise FanfoldError(
            f"Images of {height} × {width} pixels, not square, can't be turned by a quarter: set --train.rotations and "
            "--task.rotations to false, or prepare square ones."
        )


def draw_episodes(
    seed: int,
    stream: Stream,
    first: int,
    last: int,
    shape: EpisodeShape,
    classes: NDArray[np.int64],
    drawings: NDArray[np.int64],
) -> Episodes:
    """Draw the tasks numbered `first` up to, not including, `last`.

    Args:
        seed: The run's seed, 0 to 2⁶⁴ - 1.
        stream: The sequence that the tasks belong to.
        first: Number of the first task.
        last: Number after the last task.
        shape: What a task is made of.
        classes: The classes to draw from, indices into the store.
        drawings: How many drawings each class of the store has.

    Returns:
        The tasks; task n is the same whatever range it is drawn in.
    """
    return draw_ranges(seed, stream, [(first, last)], shape, classes, drawings)


def draw_ranges(
    seed: int,
    stream: Stream,
    ranges: Sequence[tuple[int, int]],
    shape: EpisodeShape,
    classes: NDArray[np.int64],
    drawings: NDArray[np.int64],
) -> Episodes:
    """Draw the tasks of some ranges of numbers, one range after the other; many ranges take little longer than one.

    Args:
        seed: The run's seed, 0 to 2⁶⁴ - 1.
        stream: The sequence that the tasks belong to.
        ranges: Number of the first task and number after the last task of each.
        shape: What a task is made of.
        classes: The classes to draw from, indices into the store.
        drawings: How many drawings each class of the store has.

    Returns:
        The tasks; task n is the same whatever ranges it is drawn in.
    """
    tasks, ways, images = sum(last - first for first, last in ranges), shape.ways, shape.shots + shape.queries
    episodes = Episodes(
        classes=np.empty((tasks, ways), np.int64),
        rotations=np.zeros((tasks, ways), np.int64),
        reflections=np.zeros((tasks, ways), np.bool_),
        drawings=np.empty((tasks, ways, images), np.int64),
    )
    needed = ways * (2 + images)
    blocks = -(-needed // WORDS_A_BLOCK)
    begin = 0
    for words in _words(seed, stream, ranges, blocks):
        end = begin + len(words)
        # Word by word, those of all tasks side by side: every operation goes along the tasks.
        of_classes, of_turns, of_drawings = np.split(words.T[:needed], [ways, 2 * ways])
        chosen = classes[_without_replacement(of_classes, np.int64(len(classes)))]
        episodes.classes[begin:end] = chosen.T
        # The upper two bits of a word are the quarter turns; the next is as random, and mirrors where it is 0.
        if shape.rotations:
            episodes.rotations[begin:end] = (of_turns >> np.uint64(62)).T
        if shape.reflections:
            episodes.reflections[begin:end] = (of_turns >> np.uint64(61) & np.uint64(1) == 0).T
        by_image = of_drawings.reshape(ways, images, -1).swapaxes(0, 1)
        episodes.drawings[begin:end] = _without_replacement(by_image, drawings[chosen]).T
        begin = end
    return episodes


def _words(seed: int, stream: Stream, ranges: Sequence[tuple[int, int]], blocks: int) -> Iterator[NDArray[np.uint64]]:
    """The random words of some ranges of tasks, some slabs `[tasks, words of a task]` one after the other."""
    generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    words = blocks * WORDS_A_BLOCK
    slab = -(-WORDS_A_SLAB // words)
    here, parts, held = 0, [], 0
    for first, last in ranges:
        generator.advance((first - here) * blocks)
        for begin in range(first, last, slab):
            end = min(begin + slab, last)
            parts.append(generator.random_raw((end - begin) * words))
            held += end - begin
            if held >= slab:
                yield np.concatenate(parts).reshape(held, words)
                parts, held = [], 0
        here = last
    if parts:
        yield np.concatenate(parts).reshape(held, words)


def _without_replacement(words: NDArray[np.uint64], size: NDArray[np.int64] | np.int64) -> NDArray[np.int32]:
    """The first k places of a Fisher-Yates shuffle of 0 … size - 1, many shuffles side by side.

    Args:
        words: `[k, …]`; the 53 upper bits of each are a fraction.
        size: How many there are to choose from, at least k: for all shuffles, or of each, `[…]`.

    Returns:
        int32 `[k, …]`, distinct along the first axis.
    """
    chosen = np.empty(words.shape, np.int32)
    for place, word in enumerate(words):
        chosen[place] = (word >> np.uint64(11)) * ((size - place) * 2.0**-53)
        chosen[place] += place
    # A place is swapped with the chosen one, never an earlier one. So what comes to lie at a place is found without a
    # deck laid out: it is what lay at the chosen place, and, back through the swaps before, wherever one of them had
    # put that there from. By arithmetic, as a mask takes the longer the more it lets pass.
    for place in range(len(words) - 2, -1, -1):
        later = chosen[place + 1 :]
        later -= (later == chosen[place]) * (chosen[place] - np.int32(place))
    return chosen
