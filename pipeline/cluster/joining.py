"""Clusters that others started: what their workers lack is found before anything runs, and the worker is named."""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from distributed import Client, Worker, WorkerPlugin

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.tasks import given

T = TypeVar("T")

ANSWER = 120.0  # seconds within which workers tell of themselves: they may import PyTorch for that
ATTEMPTS = 3  # of asking, where a worker goes meanwhile
SHORT = 5.0  # seconds within which one does that imports nothing

PACKAGE: Final = "fanfold"
_handed: WeakKeyDictionary[Client, set[str]] = WeakKeyDictionary()


class HandOver(WorkerPlugin):
    """Gives an object of the driver's to every worker, also to those that come later."""

    def __init__(self, digest: str) -> None:
        self.name = f"{PACKAGE}-object-{digest[:16]}"
        self._digest, self._content = digest, given.as_sent(digest)

    def setup(self, worker: Worker) -> None:
        """Take the object; called by Dask in the worker."""
        given.receive(self._digest, self._content)


def hand_over(client: Client, digests: Sequence[str]) -> None:
    """Give the workers some objects by their digests, each once."""
    there = _handed.setdefault(client, set())
    for digest in digests:
        if digest not in there:
            plugin = HandOver(digest)
            register(client, plugin, plugin.name)
            there.add(digest)


def register(client: Client, plugin: WorkerPlugin, name: str) -> None:
    """Have all workers set a plugin up under a name, also those that come later.

    Raises:
        FanfoldError: Workers don't answer; they are named.
    """
    try:  # `register_plugin` would wait for ever
        client.sync(client._register_worker_plugin, plugin=plugin, name=name, idempotent=False, callback_timeout=ANSWER)
    except TimeoutError as error:
        raise _unanswered(client) from error


def installed() -> str:
    """The version of Fanfold here."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:  # run from a clone that isn't installed
        return "unknown"


def check_versions(client: Client) -> None:
    """Check that scheduler and workers have this version of Fanfold.

    Raises:
        FanfoldError: One has another, or none; it is named.
    """
    here = installed()
    try:
        found: dict[str, Any] = client.sync(client._get_versions, packages=[PACKAGE], callback_timeout=ANSWER)
    except TimeoutError as error:
        raise _unanswered(client) from error
    scheduler = {f"the scheduler at {_address(client)}": found["scheduler"]}
    workers = {f"worker {address}": answer for address, answer in found["workers"].items()}
    for name, answer in (scheduler | workers).items():
        there = (answer or {}).get("packages", {}).get(PACKAGE)
        if there is None and here != "unknown":
            raise FanfoldError(f"{name} has no Fanfold: install {here} there.")
        if there not in (None, here):
            raise FanfoldError(f"{name} runs Fanfold {there}, this is {here}: install the same on both.")


def ask_workers(client: Client, function: Callable[[], T]) -> dict[str, T]:
    """What a function gives on each worker, by its address. When one goes meanwhile, the others are asked again.

    Raises:
        FanfoldError: It fails on a worker, or again and again one goes; the worker is named.
    """
    for _ in range(ATTEMPTS):
        try:
            answers: dict[str, Any] = client.run(function, on_error="return", callback_timeout=ANSWER)
        except TimeoutError as error:
            raise _unanswered(client) from error
        if not any(map(_is_lost, answers.values())):
            break
    for address, answer in sorted(answers.items()):
        if isinstance(answer, FanfoldError):
            raise FanfoldError(f"worker {address}: {answer}") from answer
        if isinstance(answer, ImportError):
            raise FanfoldError(f"worker {address} can't import what it needs ({one_line(answer)}).") from answer
        if _is_lost(answer):
            raise FanfoldError(f"worker {address} is gone ({type(answer).__name__}): start it again.") from answer
        if isinstance(answer, BaseException):
            raise FanfoldError(f"worker {address} can't compute this run ({one_line(answer)}).") from answer
    return answers


def _is_lost(answer: object) -> bool:
    """Whether an answer is Dask's error of a lost connection, which has no number, unlike an error of a file."""
    return isinstance(answer, ConnectionError) or (isinstance(answer, OSError) and answer.errno is None)


def _unanswered(client: Client) -> FanfoldError:
    """The error of workers that don't answer in time; it names those that don't answer at all."""
    silent = []
    for address in sorted(client.scheduler_info(n_workers=-1)["workers"]):
        try:
            client.run(_nothing, workers=[address], on_error="return", callback_timeout=SHORT)
        except TimeoutError:
            silent.append(address)
    who = f"worker {', '.join(silent)}" if silent else f"the scheduler at {_address(client)}"
    return FanfoldError(f"{who} hasn't answered for {ANSWER:.0f} s: it is stopped, cut off or busy. Start it again.")


def _nothing() -> None:
    pass


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler is not None else "?"
