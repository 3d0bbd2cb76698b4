"""Messages of drivers and workers to the scheduler about their runs: Dask's events of one topic, small and plain.

Each message names its run and its kind. A driver sends at most one message about windows a second, a worker one message
for each window of a gang.
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

TOPIC = "fanfold"


class Message(TypedDict):
    """The common fields of all messages."""

    run: str


class Started(Message):
    """A training or a search begins, or goes on.

    Fields:
        name: Its name.
        client: The identifier of its driver's connection, by which a killed driver is noticed.
        config: The resolved configuration by dotted keys.
        iteration, iterations: Iterations done, and at the end; trials for a search.
        batch, chunk: Tasks of a meta-batch and of a chunk.
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
    """Successive meta-iterations are done.

    Fields:
        iteration, iterations: Iterations done at the end, and the number of these iterations.
        tasks: Training tasks computed.
        seconds: Their duration, without validation.
        loss, accuracy: Their means.
        done: The share of the run that is done, 0 to 1.
        left: Seconds to the end of the run.
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
    """Seconds of one worker in a gang's window.

    Fields:
        iteration: Iterations done at the window's start.
        rank, ranks: The worker's rank, and the number of ranks.
        worker: The worker's address.
        tasks: Training tasks that it computed.
        adapt, fold, step: Seconds of each phase.
        exchange: Seconds of each exchange with the other ranks, in order, with waiting.
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
    """The images of the validation tasks that the page shows.

    Fields:
        tasks: By task and class: the images as PNG data URIs, support first.
        shots: How many of a class's images are support images.
    """

    kind: Literal["drawn"]
    tasks: Sequence[Sequence[Sequence[str]]]
    shots: int


class Judged(Message):
    """A validation.

    Fields:
        loss: Mean loss of the validation tasks.
        accuracy, ci95: Their mean accuracy, and half the width of its 95 % interval.
        guesses, confidences: The predictions for the shown queries, by task and class.
    """

    kind: Literal["judged"]
    iteration: int
    loss: float
    accuracy: float
    ci95: float
    guesses: Sequence[Sequence[Sequence[int]]]
    confidences: Sequence[Sequence[Sequence[float]]]


class Said(Message):
    """A message to the user in one line."""

    kind: Literal["said"]
    text: str


class TrialTold(Message):
    """The state of a search's trial.

    Fields:
        params: Its parameters in words.
        accuracy: Its best validation accuracy; None before the first.
        reason: Why it failed; None if it did not.
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
    """A training or a search has ended.

    Fields:
        state: `ended`, `stopped` by the user, or `failed`.
        reason: Why it failed; None if it did not.
    """

    kind: Literal["ended"]
    state: Literal["ended", "stopped", "failed"]
    reason: str | None


AnyMessage = Started | Windows | Ranked | Drawn | Judged | Said | TrialTold | Ended
