"""A worker's side of gangs: a window of meta-iterations as one Dask task, together with the gang's other members.

    rank 0: adapt ─┐            ┌─ fold ─ step ─┐
    rank 1: adapt ─┼─ exchange ─┼─ fold ─ step ─┼─ gather ─ adapt …
    rank 2: adapt ─┘            └─ fold ─ step ─┘

The group is gloo's. Workers with a GPU each may have one of NCCL's besides, see `pipeline.executors.nccl`. A member
computes by a plain loop, or by its device's where that can be.
"""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from distributed import Worker, get_worker
from distributed.comm.addressing import get_address_host
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

from fanfold.pipeline import worker
from fanfold.pipeline.executors.base import Window
from fanfold.pipeline.executors.communicator import Communicator, DisbandedError
from fanfold.pipeline.executors.device_loop import DeviceLoop, suits
from fanfold.pipeline.executors.member_loop import MemberLoop
from fanfold.pipeline.executors.nccl import DeviceCommunicator, abort, connect_devices
from fanfold.pipeline.executors.plain_loop import PlainLoop
from fanfold.pipeline.executors.segments import Share, segment_size
from fanfold.pipeline.executors.stopwatch import Stopwatch
from fanfold.pipeline.messages import TOPIC, Ranked
from fanfold.pipeline.optimizer import Record, State, Vectors
from fanfold.pipeline.recipe import Recipe

# How long gloo waits for the others. The driver's watch ends a wait long before; this bounds how long a worker that
# hangs for good keeps the others.
PENDING = timedelta(minutes=30)
SEATS = 8  # gangs that a worker keeps a seat in: a driver that was killed never says goodbye


@dataclass(frozen=True)
class Gang:
    """Workers that compute a run's windows together."""

    run: str
    name: str  # no other gang has it
    workers: tuple[str, ...]  # their addresses, by rank


@dataclass(frozen=True)
class Order:
    """What all members of a gang are told of a window."""

    iteration: int  # meta-iterations done before it
    iterations: int
    size: int  # number of meta-parameters
    goes_on: bool  # it starts where the gang's last window ended, so no state travels


@dataclass
class _Seat:
    """A worker's place in a gang, kept from window to window."""

    gang: str
    store: TCPStore | None = None
    group: ProcessGroupGloo | None = None
    devices: Any = None  # a `ProcessGroupNCCL`
    loop: MemberLoop | None = None


_seats: dict[tuple[str, str], _Seat] = {}  # by run and worker's address


def take_seat(gang: Gang, dask_worker: Worker) -> int | None:
    """Give a worker its place in a new gang, instead of the one in the run's last.

    Returns:
        On rank 0: the port of the store where the members find each other.
    """
    address = str(dask_worker.contact_address)
    _seats.pop((gang.run, address), None)
    for place in [place for place in _seats if place[1] == address][: 1 - SEATS]:  # the oldest
        del _seats[place]
    seat = _seats[gang.run, address] = _Seat(gang.name)
    if address != gang.workers[0]:
        return None
    # Bound to the worker's own address: the store has no password, and would listen on all of the machine's.
    host = get_address_host(address)
    listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = int(listening.getsockname()[1])
    seat.store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
    return port


async def connect(gang: Gang, port: int, bound: float, nccl: bool, dask_worker: Worker) -> str | None:
    """Connect a worker that has its seat with the gang's others, beside its present task, in `bound` seconds.

    All meet at `port`, that of rank 0's store; `nccl` says whether GPUs are to exchange by NCCL.

    Returns:
        What went wrong, if anything did.
    """
    address = str(dask_worker.contact_address)
    seat = _seats.get((gang.run, address))
    if seat is None or seat.gang != gang.name:
        return "its seat is taken"
    try:
        # A thread of its own: should it hang, Dask must not lack one of those that it shares.
        connecting = partial(_connect, seat, gang, address, port, timedelta(seconds=bound), nccl)
        await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), connecting)
    except RuntimeError as error:  # all of PyTorch's own are
        return str(error).partition("\n")[0]
    return None


def _connect(seat: _Seat, gang: Gang, address: str, port: int, bound: timedelta, nccl: bool) -> None:
    store = seat.store or TCPStore(get_address_host(gang.workers[0]), port, is_master=False, timeout=bound)
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    # Where Dask reaches a worker, others do: the name of its machine may stand for another interface.
    options._devices = [ProcessGroupGloo.create_device(hostname=get_address_host(address))]
    options._timeout, options._threads = bound, 1
    group = ProcessGroupGloo(PrefixStore(gang.name, store), gang.workers.index(address), len(gang.workers), options)
    if nccl:
        communicator = Communicator(group, gang.workers.index(address), len(gang.workers), lambda: True)
        seat.devices = connect_devices(communicator, store, gang.name, bound)
    group._set_default_timeout(PENDING)
    seat.group = group


def leave(run: str, dask_worker: Worker) -> None:
    """Close what a worker keeps of a run's gang."""
    _seats.pop((run, str(dask_worker.contact_address)), None)


def seats() -> int:
    """How many gangs the worker keeps a seat in."""
    return len(_seats)


def window(gang: Gang, rank: int, recipe: Recipe, order: Order, start: State | None) -> Window | None:
    """Compute a window, in step with the gang's other members.

    Rank 0 gets the state to start from, unless the gang stands there already.

    Returns:
        For rank 0: what came of it.

    Raises:
        RunError: A loss or gradient of a meta-batch is not finite.
        DisbandedError: The gang broke, or nobody waits for the window any more.
    """
    dask_worker, place = get_worker(), (gang.run, gang.workers[rank])
    seat, key = _seats.get(place), dask_worker.get_current_task()
    if seat is None or seat.gang != gang.name or seat.group is None:
        raise DisbandedError("a worker was restarted")

    def wanted() -> bool:
        # A task whose result nobody waits for any more, as the driver has given the gang up, or is gone itself.
        task = dask_worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    communicator, stopwatch = _communicator(seat, rank, len(gang.workers), wanted), Stopwatch()
    share = Share(rank, len(gang.workers), tuple(recipe.meta.chunks()))
    try:
        if seat.loop is None:
            seat.loop = _loop(recipe, share, order.size)
        if not order.goes_on:
            _distribute(seat.loop, communicator, order, start)
            stopwatch.end("exchange")
        if seat.loop.iteration != order.iteration:
            raise DisbandedError("a worker was left behind")
        records = seat.loop.window(order.iterations, communicator.check, stopwatch, communicator)
        chunk_seconds = stopwatch.total("adapt") / (order.iterations * len(share.own)) if share.own else 0.0
        found = _collect(seat.loop, communicator, order, records, chunk_seconds)
        stopwatch.end("exchange")
    except DisbandedError:
        if _seats.get(place) is seat:  # not that of a newer gang; what it leaves, the others need not wait for
            _seats.pop(place, None)
        if seat.devices is not None:
            abort(seat.devices)  # else the device would wait for the lost one, for ever
        raise
    dask_worker.log_event(TOPIC, _message(gang, share, order, stopwatch))
    return found


def _communicator(seat: _Seat, rank: int, ranks: int, wanted: Callable[[], bool]) -> Communicator:
    if seat.devices is None:
        return Communicator(seat.group, rank, ranks, wanted)
    return DeviceCommunicator(seat.group, seat.devices, rank, ranks, wanted)


def _loop(recipe: Recipe, share: Share, size: int) -> MemberLoop:
    """What computes a rank's windows: its device's loop where that can be."""
    if suits(recipe, worker.open_context(recipe)):
        return DeviceLoop(recipe, share, size)
    return PlainLoop(recipe, share, size)


def _distribute(loop: MemberLoop, communicator: Communicator, order: Order, start: State | None) -> None:
    """Give every rank the parameters, and its segment of the other vectors that rank 0 has."""
    length = segment_size(order.size, communicator.ranks)
    vectors = torch.zeros(len(Vectors._fields), length * communicator.ranks)
    if start is not None:
        for row, name in zip(vectors, Vectors._fields, strict=True):
            row[: order.size] = torch.tensor(getattr(start, name))
    communicator.broadcast(vectors)
    own = vectors[:, communicator.rank * length : (communicator.rank + 1) * length]
    loop.start(vectors[0].numpy(), State(order.iteration, *own.numpy()))


def _collect(
    loop: MemberLoop, communicator: Communicator, order: Order, records: tuple[Record, ...], seconds: float
) -> Window | None:
    """For rank 0: the window, with the whole state, from all ranks' segments, and the seconds of a chunk by rank."""
    parameters, own = loop.standing
    segment = [torch.from_numpy(vector) for vector in (own.mean, own.square, own.average)]
    found = communicator.gather(torch.cat([*segment, torch.tensor([seconds])])).numpy()
    if communicator.rank > 0:
        return None
    length = len(own.mean)
    others = [found[:, place * length : (place + 1) * length].ravel()[: order.size] for place in range(3)]
    return Window(State(own.iteration, parameters[: order.size], *others), records, tuple(found[:, -1].tolist()))


def _message(gang: Gang, share: Share, order: Order, stopwatch: Stopwatch) -> Ranked:
    """Where a window's time went on a rank, as the dashboard is told: Dask sees one long task."""
    return {
        "kind": "ranked",
        "run": gang.run,
        "iteration": order.iteration,
        "rank": share.rank,
        "ranks": share.ranks,
        "worker": gang.workers[share.rank],
        "tasks": order.iterations * sum(last - first for first, last in share.own),
        "adapt": stopwatch.total("adapt"),
        "fold": stopwatch.total("fold"),
        "step": stopwatch.total("step"),
        "exchange": stopwatch.each("exchange"),
    }
