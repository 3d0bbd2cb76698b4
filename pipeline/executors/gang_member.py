"""What a worker does in a gang: a window of meta-iterations in one Dask task, together with the others.

    rank 0: adapt ─┐              ┌─ fold ─ step ─┐
    rank 1: adapt ─┼─ all-to-all ─┼─ fold ─ step ─┼─ all-gather ─ adapt …
    rank 2: adapt ─┘              └─ fold ─ step ─┘

Every rank has a segment of the vectors. It gets that segment of each chunk's gradient, folds along the same tree as the
graph, and steps its own segment of the state; then all gather the parameters. Folding and stepping go element by
element, so the parameters are bit for bit the graph's. Beside an all-gather of whole gradients that every rank folds,
this took 0.5 of the time with 2 workers and 8 chunks, 0.4 with 4 workers and 32, and as long with 2 chunks.

The group is gloo's. Workers with a GPU each have one of NCCL's besides, see `pipeline.executors.nccl`; what a worker
does on its GPU in a window, see `pipeline.executors.device_loop`.
"""

import asyncio
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
from distributed import Worker, get_worker
from distributed.comm.addressing import get_address_host
from torch.distributed import PrefixStore, ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]

from fanfold.pipeline import worker as work
from fanfold.pipeline.executors.communicator import DisbandedError, Others, from_rows, segment_size, to_rows
from fanfold.pipeline.executors.device_loop import DeviceLoop, Share, suits
from fanfold.pipeline.executors.graph import Adapt, share
from fanfold.pipeline.executors.nccl import OthersByDevice, connect_devices
from fanfold.pipeline.executors.stopwatch import Laps
from fanfold.pipeline.fold import ChunkSum, fold_ahead, fold_all
from fanfold.pipeline.messages import TOPIC, Ranked
from fanfold.pipeline.optimizer import State, Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.step import step
from fanfold.tasks.episodes import Stream

# How long gloo waits for the others. The driver's watch ends a wait long before; this bounds what a worker that hangs
# for good leaves behind in the others.
PENDING = timedelta(minutes=30)
SEATS = 8  # gangs that a worker keeps a place in: a driver that was killed never says goodbye


@dataclass(frozen=True)
class Gang:
    """Workers that compute a run's windows together.

    Args:
        run: The run's identifier.
        name: Its own name, that no other gang has.
        workers: The workers' addresses, by rank.
    """

    run: str
    name: str
    workers: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """What came of a window.

    Args:
        state: The state at its end, with the records of its iterations.
        seconds: Seconds of computing a chunk, by rank, the median of the window's; nought for a rank without chunks.
    """

    state: State
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Standing:
    """Where a rank stands between windows: the parameters, and its own segment of the state's vectors."""

    parameters: Vector
    own: State


@dataclass
class _Seat:
    """A worker's place in a gang, kept from window to window."""

    gang: str
    store: TCPStore | None = None
    group: ProcessGroupGloo | None = None
    standing: _Standing | None = None
    loop: DeviceLoop | None = None
    devices: Any = None  # a `ProcessGroupNCCL`


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
    seat.store = TCPStore(get_address_host(address), 0, is_master=True, wait_for_workers=False)
    return int(seat.store.port)


async def connect(gang: Gang, port: int, bound: float, device: str, dask_worker: Worker) -> str | None:
    """Connect a worker that has its seat with the gang's others, beside whatever task it is at.

    Args:
        gang: The gang.
        port: Where rank 0 has its store.
        bound: Seconds to wait for the others.
        device: Where they compute, `cpu` or `cuda`.
        dask_worker: The worker, which Dask fills in.

    Returns:
        What went wrong, if anything did.
    """
    address = str(dask_worker.contact_address)
    seat = _seats.get((gang.run, address))
    if seat is None or seat.gang != gang.name:
        return "its seat is taken"
    try:
        # A thread of its own: should it hang, Dask must not lack one of those that it shares.
        connecting = partial(_connect, seat, gang, address, port, timedelta(seconds=bound), device)
        await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), connecting)
    except RuntimeError as error:  # all of PyTorch's own are
        return str(error).partition("\n")[0]
    return None


def _connect(seat: _Seat, gang: Gang, address: str, port: int, bound: timedelta, device: str) -> None:
    store = seat.store or TCPStore(get_address_host(gang.workers[0]), port, is_master=False, timeout=bound)
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    # Where Dask reaches a worker, others do: the name of its machine may stand for another interface.
    options._devices = [ProcessGroupGloo.create_device(hostname=get_address_host(address))]
    options._timeout, options._threads = bound, 1
    group = ProcessGroupGloo(PrefixStore(gang.name, store), gang.workers.index(address), len(gang.workers), options)
    if device == "cuda":
        others = Others(group, gang.workers.index(address), len(gang.workers), lambda: True)
        seat.devices = connect_devices(others, store, gang.name, bound)
    group._set_default_timeout(PENDING)
    seat.group = group


def leave(run: str, dask_worker: Worker) -> None:
    """Close what a worker keeps of a run's gang."""
    _seats.pop((run, str(dask_worker.contact_address)), None)


def window(
    gang: Gang,
    rank: int,
    recipe: Recipe,
    adapt: Adapt,
    start: State | int,
    size: int,
    iterations: int,
    goes_on: bool,
) -> Window | None:
    """Some meta-iterations, in step with the gang's others.

    Args:
        gang: The gang.
        rank: This worker's rank.
        recipe: What the run's numbers depend on.
        adapt: What computes a chunk.
        start: The state to start from, for rank 0 if the gang has it not; else the iterations done.
        size: How many meta-parameters there are.
        iterations: How many meta-iterations.
        goes_on: Whether the window starts from where the gang's last one ended: no state travels then.

    Returns:
        For rank 0: what came of it.

    Raises:
        RunError: A loss or gradient of a meta-batch is not finite, see `step`.
        DisbandedError: See there.
    """
    worker, place = get_worker(), (gang.run, gang.workers[rank])
    seat, key = _seats.get(place), worker.get_current_task()
    iteration = start if isinstance(start, int) else start.iteration
    if seat is None or seat.gang != gang.name or seat.group is None:
        raise DisbandedError("a worker has forgotten it")

    def wanted() -> bool:
        # A task whose result nobody waits for any more, as the driver has given the gang up, or is gone itself.
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    others, laps = Others(seat.group, rank, len(gang.workers), wanted), Laps()
    if seat.devices is not None:
        others = OthersByDevice(seat.group, seat.devices, rank, len(gang.workers), wanted)
    try:
        if not goes_on:
            seat.standing = _hand_out(others, start, size)
            laps.end("exchange")
        if seat.standing is None or seat.standing.own.iteration != iteration:
            raise DisbandedError("a worker stands elsewhere")
        loop = _loop(seat, recipe, adapt, others, size)
        if loop is None:
            found, seat.standing = _compute(others, recipe, adapt, seat.standing, size, iterations, laps)
        else:
            found, seat.standing = _on_device(loop, others, recipe, seat.standing, goes_on, iterations, laps)
    except DisbandedError:
        if _seats.get(place) is seat:  # not that of a newer gang; what it leaves, the others need not wait for
            del _seats[place]
        if seat.devices is not None:
            seat.devices.abort()  # else the device would wait for the lost one, for ever
        raise
    worker.log_event(TOPIC, _told(gang, rank, recipe, iteration, iterations, laps))
    return found


def _told(gang: Gang, rank: int, recipe: Recipe, iteration: int, iterations: int, laps: Laps) -> Ranked:
    """Where a window's time went on a rank, as the dashboard is told: Dask sees one long task."""
    return {
        "kind": "ranked",
        "run": gang.run,
        "iteration": iteration,
        "rank": rank,
        "ranks": len(gang.workers),
        "worker": gang.workers[rank],
        "tasks": iterations * sum(last - first for first, last in _own_chunks(recipe, rank, len(gang.workers))[0]),
        "adapt": laps.total("adapt"),
        "fold": laps.total("fold"),
        "step": laps.total("step"),
        "exchange": laps.each("exchange"),
    }


def _hand_out(others: Others, start: State | int, size: int) -> _Standing:
    """Give every rank the parameters, and its segment of what else rank 0 has."""
    length = segment_size(size, others.ranks)
    vectors = np.zeros((4, length * others.ranks), np.float32)
    if isinstance(start, State):
        vectors[:, :size] = start.parameters, start.mean, start.square, start.average
    others.broadcast(vectors)
    iteration = start.iteration if isinstance(start, State) else start
    return _Standing(vectors[0], State(iteration, *vectors[:, others.rank * length : (others.rank + 1) * length]))


def _compute(
    others: Others, recipe: Recipe, adapt: Adapt, standing: _Standing, size: int, iterations: int, laps: Laps
) -> tuple[Window | None, _Standing]:
    rank = others.rank
    mine, owners = _own_chunks(recipe, rank, others.ranks)
    length = segment_size(size, others.ranks)

    parameters, now = standing.parameters, standing.own
    for _ in range(iterations):
        whole, computed = replace(now, parameters=parameters[:size]), []
        for chunk in mine:
            others.check()
            computed.append(adapt(recipe, whole, *chunk))
            laps.end("adapt")
        parts, left = fold_ahead(computed, owners, rank)
        rows = to_rows(parts, others.ranks, size)
        laps.end("fold")
        found = others.all_to_all(rows, [left.count(other) for other in range(others.ranks)])
        laps.end("exchange")
        sums, broken = from_rows(found, length)
        total = fold_all(sums)
        if broken:
            total = replace(total, broken=_all_broken(others, parts, broken))
        laps.end("fold")
        now = step(recipe, now, total)
        laps.end("step")
        parameters = others.all_gather(now.parameters).ravel()
        laps.end("exchange")

    pace = statistics.median(laps.each("adapt") or [0.0])
    return _bring_together(others, _Standing(parameters, now), size, pace, laps)


def _loop(seat: _Seat, recipe: Recipe, adapt: Adapt, others: Others, size: int) -> DeviceLoop | None:
    """What computes a rank's windows on its device, where that can be."""
    if adapt is not work.adapt or not recipe.together or not suits(recipe, opened := work.bench(recipe)):
        return None
    if seat.loop is None:
        chunks, (_, owners) = recipe.meta.chunks(), _own_chunks(recipe, others.rank, others.ranks)
        seat.loop = DeviceLoop(recipe, opened, Share(others.rank, others.ranks, tuple(chunks), tuple(owners)), size)
    return seat.loop


def _on_device(
    loop: DeviceLoop, others: Others, recipe: Recipe, standing: _Standing, goes_on: bool, iterations: int, laps: Laps
) -> tuple[Window | None, _Standing]:
    own, size = standing.own, loop.size
    with work.at_the_bench(recipe, Stream.TRAIN, own.iteration * recipe.meta.batch):
        if not goes_on:
            loop.stand(standing.parameters, own)
        records = loop.window(others, own.iteration, iterations)
        parameters, vectors = loop.standing()
    laps.end("adapt")
    chunks = len(_own_chunks(recipe, others.rank, others.ranks)[0])
    pace = laps.total("adapt") / (iterations * chunks) if chunks else 0.0
    now = _Standing(parameters, State(own.iteration + iterations, *vectors, records))
    return _bring_together(others, now, size, pace, laps)


def _bring_together(
    others: Others, standing: _Standing, size: int, pace: float, laps: Laps
) -> tuple[Window | None, _Standing]:
    """What came of a window, for rank 0, and where a rank stands after it; a chunk took it `pace` seconds."""
    now, parameters, length = standing.own, standing.parameters, segment_size(size, others.ranks)
    found = others.all_gather(np.concatenate([now.mean, now.square, now.average, np.array([pace], np.float32)]))
    laps.end("exchange")
    standing = _Standing(parameters, replace(now, records=()))
    if others.rank > 0:
        return None, standing
    mean, square, average = (found[:, place * length : (place + 1) * length].ravel()[:size] for place in range(3))
    state = State(now.iteration, parameters[:size], mean, square, average, now.records)
    return Window(state, tuple(found[:, -1].tolist())), standing


def _own_chunks(recipe: Recipe, rank: int, ranks: int) -> tuple[list[tuple[int, int]], list[int]]:
    """The chunks of a meta-batch that are a rank's, and the ranks of all."""
    chunks = recipe.meta.chunks()
    owners = [share(place, len(chunks), ranks) for place in range(len(chunks))]
    return [chunk for chunk, owner in zip(chunks, owners, strict=True) if owner == rank], owners


def _all_broken(others: Others, parts: Sequence[ChunkSum], count: int) -> tuple[int, ...]:
    """The numbers of the tasks that broke, of all ranks, given how many they are."""
    own = [number for part in parts for number in part.broken]
    numbers = np.full(count, -1)
    numbers[: len(own)] = own
    found = others.all_gather(numbers)
    return tuple(found[found >= 0].tolist())
