"""The driver's side of gangs: it forms them, hands them windows, and forms another when a member is lost.

A window is one Dask task a worker, pinned to it, and Dask starts nothing else there meanwhile. Two gangs that share
workers never wait for each other: the tasks of a window go to the scheduler in one message, with a priority that no
other window has, so all workers take up the windows of all runs in the same order.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from distributed import Future, KilledWorker, wait

from fanfold.data.errors import RunError
from fanfold.pipeline.cluster import results as waiting
from fanfold.pipeline.cluster.cluster import Cluster, talking_to_the_scheduler
from fanfold.pipeline.events import Listener, Noticed
from fanfold.pipeline.executors import gang_member
from fanfold.pipeline.executors.base import Window
from fanfold.pipeline.executors.communicator import DisbandedError
from fanfold.pipeline.executors.gang_member import Gang, Order
from fanfold.pipeline.executors.graph import GraphExecutor, Key, as_collections
from fanfold.pipeline.optimizer import State
from fanfold.pipeline.recipe import Recipe

POLL_SECONDS = 1.0  # between two checks of the workers while a window lasts
CONNECT = 10.0  # seconds within which workers must connect with each other
NOTICE = 2.0  # seconds within which the scheduler notices that a worker is gone
ATTEMPTS = 4  # gangs that may fail over one window


class NoGangError(RunError):
    """Gangs break again and again."""

    def __init__(self, why: str, iterations: str) -> None:
        self.why = f"{ATTEMPTS} gangs broke one after another; the last: {why}"
        super().__init__(
            f"{ATTEMPTS} gangs of workers broke one after another over {iterations} ({why}): see the workers' logs, "
            "and go on with `resume`, perhaps with `cluster.reduction=graph`."
        )


class Pulse:
    """Which workers show signs of life.

    Every worker sends the scheduler a heartbeat about twice a second, however long its chunk takes. Dask itself waits
    for minutes for a worker whose process is stopped, or whose machine is gone.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._heard: dict[str, tuple[float, float]] = {}  # a heartbeat's time, and ours when it was new
        self._paused = set[str]()

    def alive(self) -> list[str]:
        """The workers that take tasks, with a heartbeat within the cluster's patience, in the order of their addresses.

        Dask pauses a worker near its memory limit: it sends heartbeats, and starts nothing.
        """
        now, workers = time.monotonic(), self._cluster.asked("identity")["workers"]
        signs = {address: worker["last_seen"] for address, worker in workers.items()}
        self._paused = {address for address, worker in workers.items() if worker["status"] == "paused"}
        before = self._heard
        self._heard = {
            address: before[address] if address in before and before[address][0] == sign else (sign, now)
            for address, sign in signs.items()
        }
        heard = {address for address, (_, at) in self._heard.items() if now - at < self._cluster.patience}
        return sorted(heard - self._paused)

    def silence(self, address: str) -> str:
        """Why a worker is not among the living, in words."""
        if address in self._paused:
            return f"{address} is paused near its memory limit"
        if address in self._heard:
            return f"{address} has been silent for {self._cluster.patience:g} s"
        return f"{address} is gone"


class GangExecutor(GraphExecutor):
    """Has gangs compute a run's windows: one gang as long as it is whole, then the next. Maps by graphs."""

    def __init__(self, cluster: Cluster, recipe: Recipe, run: str, tell: Listener) -> None:
        super().__init__(cluster, recipe, run, tell)
        self._pulse = Pulse(cluster)
        self._gang: Gang | None = None
        self._standing: State | None = None  # where the gang stands
        self._formed = self._handed = 0

    def window(self, state: State, iterations: int) -> Window:
        """Compute the window from its start again with another gang, when one breaks.

        Raises:
            NoGangError: Gangs break again and again.
        """
        these = f"iterations {state.iteration + 1:,} to {state.iteration + iterations:,}"
        for _ in range(ATTEMPTS):
            members = self._members()
            try:
                if self._gang is None or self._gang.workers != members:
                    self._gang = self._form(members)
                return self._compute(self._gang, state, iterations)
            except DisbandedError as error:
                self._gang, why = None, self._losses(members) or str(error)
                self._tell(Noticed(f"{why}: {these} are computed again"))
        raise NoGangError(why, these)

    def close(self) -> None:
        """Have the workers close what they keep of the run's gang."""
        if not self._cluster.reachable:
            return
        with suppress(Exception):  # whoever can't be reached has nothing to close, or closes it with itself
            bound = self._cluster.patience
            self._cluster.client.run(
                gang_member.leave, self._run, workers=self._pulse.alive(), on_error="ignore", callback_timeout=bound
            )

    def _members(self) -> tuple[str, ...]:
        """The workers of the next gang: those of the run's share that are alive."""
        began = time.monotonic()
        while not (members := self._cluster.chosen(self._pulse.alive())):
            if time.monotonic() - began > waiting.WITHOUT_WORKERS:
                raise waiting.without_workers(self._cluster.states)
            time.sleep(0.2)
        return tuple(members)

    def _form(self, members: tuple[str, ...]) -> Gang:
        """Connect some workers with each other, beside their tasks: a busy worker keeps nobody waiting.

        Raises:
            DisbandedError: Not all could be connected.
        """
        self._formed += 1
        self._standing = None
        gang = Gang(self._run, f"{self._run}-{self._formed}", members)
        port, *_ = self._ask(members, gang_member.take_seat, gang)  # a new worker imports PyTorch here
        nccl = self._cluster.nccl and self._recipe.device == "cuda"
        answers = self._ask(members, gang_member.connect, gang, port, CONNECT, nccl)
        if failures := [str(answer) for answer in answers if answer is not None]:
            raise DisbandedError(f"workers can't reach each other ({failures[0]})")
        return gang

    def _ask(self, members: Sequence[str], function: Any, *arguments: Any) -> list[Any]:
        """Run a function on some workers, within bounds of time."""
        bound = CONNECT + self._cluster.patience
        with talking_to_the_scheduler():
            try:
                answers = self._cluster.client.run(
                    function, *arguments, workers=list(members), on_error="return", callback_timeout=bound
                )
            except TimeoutError as error:
                raise DisbandedError(f"not all workers answered within {bound:g} s") from error
        for answer in answers.values():
            if isinstance(answer, Exception):
                raise DisbandedError(f"a worker didn't answer ({type(answer).__name__})") from answer
        return [answers[member] for member in members]

    def _compute(self, gang: Gang, state: State, iterations: int) -> Window:
        """Have a gang compute a window.

        Raises:
            DisbandedError: The gang broke.
            Exception: What a chunk raised.
        """
        standing, self._standing = self._standing, None
        goes_on = standing is not None and standing.equals(state)
        order = Order(state.iteration, iterations, len(state.parameters), goes_on)
        futures = self._hand(gang, order, None if goes_on else state)
        try:
            self._watch(gang, futures)
            window = self._fetch(gang, futures[0])
        except BaseException:
            # A worker that still computes sees that nobody waits for its result any more, and leaves the gang.
            self._gang = None
            if self._cluster.reachable:
                with talking_to_the_scheduler():
                    self._cluster.client.cancel(futures)
            raise
        self._standing = window.state
        return window

    def _hand(self, gang: Gang, order: Order, start: State | None) -> "list[Future[Any]]":
        """Hand a gang a window: one task a member, that no other worker may take."""
        self._handed += 1
        of_rank = partial(gang_member.window, gang)
        tasks: dict[Key, Any] = {
            (f"window-{self._run}", self._handed, rank): (partial(of_rank, rank, self._recipe, order, first),)
            for rank, first in enumerate([start, *[None] * (len(gang.workers) - 1)])
        }
        graph = as_collections(tasks, list(tasks), lambda key: [gang.workers[int(key[-1])]], elsewhere=False)
        with talking_to_the_scheduler(), self._cluster.labelled():
            # Before other runs' chunks, as the gang's other members wait already. Without `fifo_timeout`, Dask gives
            # all that comes within it one priority.
            futures: list[Future[Any]] = self._cluster.client.compute(
                graph, optimize_graph=False, priority=1, fifo_timeout=0
            )
        return futures

    def _watch(self, gang: Gang, futures: "list[Future[Any]]") -> None:
        """Wait for rank 0, which ends when all do; raise the error of any rank, or DisbandedError where one is lost."""
        left, began = set(futures), time.monotonic()
        while futures[0] in left:
            waiting.check_moving(began)
            with talking_to_the_scheduler():
                try:
                    left = wait(left, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").not_done
                except TimeoutError:
                    self._check(gang)
            for future in futures:
                _raise_error(future)

    def _fetch(self, gang: Gang, future: "Future[Any]") -> Window:
        """The result of rank 0, whose worker may still be lost."""
        while True:
            with talking_to_the_scheduler(), suppress(TimeoutError):
                wait([future], timeout=self._cluster.patience)
            _raise_error(future)
            with talking_to_the_scheduler():
                try:
                    window: Window = future.result(timeout=self._cluster.patience)
                    return window
                except TimeoutError:
                    self._check(gang)

    def _check(self, gang: Gang) -> None:
        alive = self._pulse.alive()
        if not set(gang.workers) <= set(alive):
            raise DisbandedError("a worker is lost")

    def _losses(self, members: Sequence[str]) -> str:
        """The lost members, in words; empty if none is lost."""
        began = time.monotonic()
        while not (lost := set(members) - set(self._pulse.alive())) and time.monotonic() - began < NOTICE:
            time.sleep(0.1)
        return " and ".join(self._pulse.silence(worker) for worker in sorted(lost))


def _raise_error(future: "Future[Any]") -> None:
    """Raise the error of a rank's task, if it has one; workers that die over a task are lost members."""
    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise DisbandedError("a worker died") from error
        raise error
