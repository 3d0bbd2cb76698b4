"""What drivers and workers tell the scheduler about their runs: Dask's events of one topic, small and plain.

Each message names its run and its kind. A driver sends at most one of windows a second, a worker one a gang's window.
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

TOPIC = "fanfold"


class Message(TypedDict):
    """What all messages have."""

    run: str


class Started(Message):
    """A training or a search began, or goes on.

    Fields:
        name: What people call it.
        client: The identifier of its driver's connection, so that a driver that was killed is noticed.
        config: The resolved configuration, keys with points.
        iteration, iterations: Iterations done, and at the end; of a search: trials.
        batch, chunk: Tasks a meta-batch and a chunk.
    """

    kind: Literal["started"]
    what: Literal["training", "search"]
    name: str
    client: str
    config: dict[str, str]
    iteration: int
    iterations: int | None
    batch: int
    chunk: int


class Windows(Message):
    """Some meta-iterations in a row are done.

    Fields:
        iteration, iterations: Done at their end, and how many they are.
        tasks: Training tasks computed.
        seconds: Seconds that they took, validation not counted.
        loss, accuracy: Means over them.
        done: How much of the run is done, 0 to 1.
        left: Seconds that the run has left.
    """

    kind: Literal["windows"]
    iteration: int
    iterations: int
    tasks: int
    seconds: float
    loss: float
    accuracy: float
    done: float
    left: float


class Ranked(Message):
    """What a gang's window took one of its workers, in seconds.

    Fields:
        iteration: Iterations done at its start.
        rank, ranks: The worker's rank, of so many.
        worker: Its address.
        tasks: Training tasks that it computed.
        adapt, fold, step: The sums of those.
        exchange: Each exchange with the others, in order, waiting for them included.
    """

    kind: Literal["ranked"]
    iteration: int
    rank: int
    ranks: int
    worker: str
    tasks: int
    adapt: float
    fold: float
    step: float
    exchange: Sequence[float]


class Drawn(Message):
    """How the validation tasks that the page shows look.

    Fields:
        tasks: Task by task, class by class: the images as PNG data URIs, support first.
        shots: How many of a class's images are support.
    """

    kind: Literal["drawn"]
    tasks: Sequence[Sequence[Sequence[str]]]
    shots: int


class Judged(Message):
    """A validation.

    Fields:
        loss: Mean loss of the validation tasks.
        accuracy, ci95: Their mean accuracy, and half the width of its 95 % interval.
        guesses, confidences: The answers to the queries drawn: task by task, class by class.
    """

    kind: Literal["judged"]
    iteration: int
    loss: float
    accuracy: float
    ci95: float
    guesses: Sequence[Sequence[Sequence[int]]]
    confidences: Sequence[Sequence[Sequence[float]]]


class Said(Message):
    """Something worth a line."""

    kind: Literal["said"]
    text: str


class TrialTold(Message):
    """Where a search's trial stands.

    Fields:
        params: Its parameters in words.
        accuracy: Its best validation accuracy, where it has one.
        reason: Why it failed.
    """

    kind: Literal["trial"]
    number: int
    params: dict[str, str]
    state: Literal["running", "finished", "pruned", "failed"]
    iteration: int
    iterations: NotRequired[int | None]
    accuracy: float | None
    reason: NotRequired[str | None]


class Ended(Message):
    """It is over.

    Fields:
        state: `ended`, `stopped` by a person, or `failed`.
        reason: Why it failed.
    """

    kind: Literal["ended"]
    state: Literal["ended", "stopped", "failed"]
    reason: str | None


AnyMessage = Started | Windows | Ranked | Drawn | Judged | Said | TrialTold | Ended
