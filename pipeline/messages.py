"""Messages of drivers and workers to the scheduler about their runs: Dask's events of one topic, small and plain.

Each message names its run and its kind. A driver sends at most one message about windows a second, a worker one message
for each window of a gang.
"""

from collections.abc import Sequence
from functools import cache
from types import UnionType
from typing import Any, Literal, NotRequired, TypedDict, cast, get_args, get_origin, get_type_hints

TOPIC = "fanfold"


class Message(TypedDict):
    """The common fields of all messages."""

    run: str


Work = Literal["training", "search", "preparing", "embedding", "labelling"]
"""What a driver does."""


class Started(Message):
    """A training, a search or other work begins, or goes on."""

    kind: Literal["started"]
    what: Work
    name: str
    client: str  # the identifier of its driver's connection, by which a killed driver is noticed
    config: dict[str, str]  # resolved, by dotted keys
    iteration: int  # iterations done; trials for a search, pictures for other work
    iterations: int | None  # at the end
    batch: int  # tasks of a meta-batch
    chunk: int  # tasks of a chunk


class Windows(Message):
    """Successive meta-iterations are done."""

    kind: Literal["windows"]
    iteration: int  # iterations done at the end
    iterations: int  # the number of these iterations
    tasks: int  # training tasks computed
    seconds: float  # their duration, without validation
    loss: float  # mean
    accuracy: float  # mean
    done: float  # the share of the run that is done, 0 to 1
    left: float  # seconds to the end of the run


class Progressed(Message):
    """Work that isn't training has gone on."""

    kind: Literal["progressed"]
    pictures: int  # that are done
    done: float  # their share of all
    left: float  # seconds to the end


class Ranked(Message):
    """Seconds of one worker, by phase, in a gang's window."""

    kind: Literal["ranked"]
    iteration: int  # iterations done at the window's start
    rank: int
    ranks: int
    worker: str  # its address
    tasks: int  # training tasks that it computed
    adapt: float
    fold: float
    step: float
    exchange: Sequence[float]  # each exchange with the other ranks, in order, with waiting


class Drawn(Message):
    """The images of the validation tasks that the page shows."""

    kind: Literal["drawn"]
    tasks: Sequence[Sequence[Sequence[str]]]  # by task and class: the images as PNG data URIs, support first
    shots: int  # how many of a class's images are support images


class Judged(Message):
    """A validation: means over its tasks, and the predictions for the shown queries, by task and class."""

    kind: Literal["judged"]
    iteration: int
    loss: float
    accuracy: float
    ci95: float  # half the width of the accuracy's 95 % interval
    labels: Sequence[Sequence[Sequence[int]]]
    confidences: Sequence[Sequence[Sequence[float]]]


class Said(Message):
    """A message to the user in one line."""

    kind: Literal["said"]
    text: str


class TrialTold(Message):
    """The state of a search's trial."""

    kind: Literal["trial"]
    number: int
    params: dict[str, str]  # in words
    state: Literal["running", "finished", "pruned", "failed"]
    iteration: int
    iterations: NotRequired[int | None]
    accuracy: float | None  # the best at a validation; None before the first
    reason: NotRequired[str | None]  # why it failed; None if it did not


class Ended(Message):
    """A training, a search or other work has ended."""

    kind: Literal["ended"]
    state: Literal["ended", "stopped", "failed"]  # `stopped` by the user
    reason: str | None  # why it failed; None if it did not


AnyMessage = Started | Windows | Progressed | Ranked | Drawn | Judged | Said | TrialTold | Ended


def understood(found: object) -> AnyMessage | None:
    """A message, if it is one of this version's: drivers and workers of others share a scheduler, too."""
    fields = _fields().get(str(found.get("kind"))) if isinstance(found, dict) else None
    if fields is None or not isinstance(found, dict):
        return None
    hints, needed = fields
    if not needed <= set(found) or not all(_fits(found[name], hint) for name, hint in hints.items() if name in found):
        return None
    return cast(AnyMessage, found)


@cache
def _fields() -> dict[str, tuple[dict[str, Any], frozenset[str]]]:
    """The types of each kind's fields by their names, and those that must be there."""
    kinds = {kind: get_type_hints(kind) for kind in get_args(AnyMessage)}
    return {get_args(hints["kind"])[0]: (hints, kind.__required_keys__) for kind, hints in kinds.items()}


def _fits(value: object, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in parts
    if origin is UnionType:
        return any(_fits(value, part) for part in parts)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(part, str) for pair in value.items() for part in pair)
    if origin is not None:
        return isinstance(value, (list, tuple)) and all(_fits(part, parts[0]) for part in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
