"""Which classes and drawings make up a task, from the task's number alone.

A task (an *episode*) has `ways` classes; of each, `shots` drawings to learn from (the support set) and `queries`
drawings to be judged by (the query set). Task number n of a stream takes the n-th stretch of random words of a
counter-based generator (Philox, Salmon et al. 2011) keyed by seed and stream, so that any worker draws any task
at once, and the same one.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from data.errors import FanfoldError

WORDS_A_BLOCK = 4  # Philox4x64 makes four words for every step of its counter


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
    tasks, ways, images = last - first, shape.ways, shape.shots + shape.queries
    needed = ways * (2 + images)
    blocks = -(-needed // WORDS_A_BLOCK)
    generator = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    generator.advance(first * blocks)
    words = generator.random_raw(tasks * blocks * WORDS_A_BLOCK).reshape(tasks, blocks * WORDS_A_BLOCK)
    uniform: NDArray[np.float64] = (words >> np.uint64(11)) * np.float64(2.0**-53)

    of_class = classes[_without_replacement(uniform[:, :ways], np.int64(len(classes)))]
    # A fraction of a turn in steps of a quarter; what it lies beyond the step by is as random, and mirrors.
    turn = uniform[:, ways : 2 * ways] * 4
    quarter_turns = np.floor(turn).astype(np.int64)
    mirrored = turn - quarter_turns < 0.5
    of_drawing = _without_replacement(
        uniform[:, 2 * ways : needed].reshape(tasks * ways, images), drawings[of_class].reshape(tasks * ways)
    )
    return Episodes(
        classes=of_class,
        rotations=quarter_turns if shape.rotations else np.zeros_like(quarter_turns),
        reflections=mirrored if shape.reflections else np.zeros_like(mirrored),
        drawings=of_drawing.reshape(tasks, ways, images),
    )


def _without_replacement(uniform: NDArray[np.float64], size: NDArray[np.int64] | np.int64) -> NDArray[np.int64]:
    """The first k places of a Fisher-Yates shuffle of 0 … size - 1, one shuffle a row.

    Args:
        uniform: `[rows, k]`, in [0, 1).
        size: How many there are to choose from, at least k: for all rows, or of each, `[rows]`.

    Returns:
        int64 `[rows, k]`, distinct in each row.
    """
    rows, chosen = uniform.shape
    row = np.arange(rows)
    deck = np.tile(np.arange(np.max(size)), (rows, 1))
    for place in range(chosen):
        other = place + np.floor(uniform[:, place] * (size - place)).astype(np.int64)
        deck[row, place], deck[row, other] = deck[row, other], deck[row, place].copy()
    return deck[:, :chosen].copy()
