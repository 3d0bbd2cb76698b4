"""A rank's meta-iterations on its device: nothing of a window comes off it before the window's end.

The window's tasks are drawn on the host, as numbers, and sent a block of iterations at a time; an iteration is then one
CUDA graph, or two with an exchange between them where there are other ranks: gather the images, compute the chunks'
sums, fold, step. On a CPU the same calls are made plainly. Fold and step are those of every reduction, in the same
order, so that the parameters are bit for bit those of a graph of Dask's tasks.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fanfold.pipeline import worker as work
from fanfold.pipeline.executors.communicator import Others, segment_size
from fanfold.pipeline.fold import ChunkSum, fold_ahead, fold_all
from fanfold.pipeline.optimizer import Rates, Record, State, Vector, Vectors, moved, rates_at
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.step import not_finite
from fanfold.tasks.device.cuda_graph import Captured
from fanfold.tasks.device.prefetch import Prefetch, RankTasks, TaskSource, draw_codes
from fanfold.tasks.episodes import Stream

BLOCK = 64  # iterations whose tasks are sent to the device at a time
FACTS = 4  # numbers of float32 beside a gradient's in a row: a loss and an accuracy, which are float64
LOOK = 0.05  # seconds between looks at whether a window is still wanted


@dataclass(frozen=True)
class Share:
    """What of every meta-batch is a rank's.

    Args:
        rank: The rank.
        ranks: How many there are.
        chunks: First and last (exclusive) place of each chunk of a meta-batch.
        owners: The rank of each.
    """

    rank: int
    ranks: int
    chunks: tuple[tuple[int, int], ...]
    owners: tuple[int, ...]

    def of(self, rank: int) -> tuple[tuple[int, int], ...]:
        """The chunks of a rank."""
        return tuple(chunk for chunk, owner in zip(self.chunks, self.owners, strict=True) if owner == rank)

    def left(self) -> list[tuple[int, int]]:
        """What is left to fold when every rank has folded ahead: each sum's rank, and how many tasks it is of."""
        found = []
        for rank in range(self.ranks):
            parts = [ChunkSum(np.zeros(0, np.float32), 0.0, 0.0, last - first) for first, last in self.of(rank)]
            found += [(rank, part.tasks) for part in fold_ahead(parts, self.owners, rank)[0]]
        return found


def suits(recipe: Recipe, opened: work.Bench) -> bool:
    """Whether a run's windows may be computed by a `DeviceLoop`.

    Its tasks are computed side by side, of images that lie on the device, by an algorithm that says in what iterations
    differ, and by a network that draws nothing at random.
    """
    return opened.resident is not None and not opened.network.draws and recipe.algorithm.phase(0) is not None


class DeviceLoop:
    """A rank's part of a run's windows.

    Args:
        recipe: What the run's numbers depend on.
        opened: What the rank keeps open for it.
        share: What of every meta-batch is the rank's.
        size: How many meta-parameters there are.

    Attributes:
        size: Likewise.
    """

    def __init__(self, recipe: Recipe, opened: work.Bench, share: Share, size: int) -> None:
        assert opened.resident is not None
        self._recipe, self._network, self._resident = recipe, opened.network, opened.resident
        self._share, self._chunks, self.size = share, share.of(share.rank), size
        device, shape, length = opened.resident.pixels.device, recipe.train, segment_size(size, share.ranks)
        classes, drawings = opened.classes(Stream.TRAIN), opened.images.drawings
        source = TaskSource(recipe.seed, Stream.TRAIN, shape, classes, drawings, opened.resident.drawings)
        self._prefetch = Prefetch(partial(draw_codes, source))
        empty = partial(torch.zeros, device=device)
        self._parameters = empty(length * share.ranks)
        self._own = Vectors(*(empty(length) for _ in range(4)))
        # What differs from iteration to iteration lies in blocks, and `_at` says where in them.
        tasks = sum(last - first for first, last in self._chunks)
        self._at = empty(1, dtype=torch.int64)
        self._codes = empty(BLOCK, tasks, shape.ways, shape.shots + shape.queries, dtype=torch.int32)
        self._rates = empty(BLOCK, len(Rates._fields))
        self._numbers = empty(BLOCK, len(recipe.algorithm.numbers(0)))
        self._sums = empty(BLOCK, 2, dtype=torch.float64)
        self._broken = empty(BLOCK, tasks, dtype=torch.bool)
        self._left = share.left()
        self._found = empty(len(self._left), length + FACTS)
        # By a number of the host's, CUDA multiplies with the reciprocal, which rounds otherwise.
        self._batch = torch.tensor(float(recipe.meta.batch), device=device)
        # Of each phase of the algorithm, and what is the same in all.
        self._alone = cache(lambda phase: Captured(partial(self._iteration, phase), device))
        self._before = cache(lambda phase: Captured(partial(self._adapt, phase), device))
        self._after = Captured(self._step, device)

    def stand(self, parameters: Vector, own: State) -> None:
        """Start from some parameters, of all ranks' segments, and the rank's own segment of a state."""
        self._parameters.copy_(torch.tensor(parameters))
        for here, there in zip(self._own, (own.parameters, own.mean, own.square, own.average), strict=True):
            here.copy_(torch.tensor(there))

    def standing(self) -> tuple[Vector, Vectors]:
        """Where it stands: the parameters, of all ranks' segments, and the rank's own segment of a state's vectors."""
        own = Vectors(*(vector.to("cpu", copy=True).numpy() for vector in self._own))
        return self._parameters.to("cpu", copy=True).numpy(), own

    def window(self, others: Others, first: int, iterations: int) -> tuple[Record, ...]:
        """Compute some meta-iterations, from number `first` on.

        Raises:
            RunError: A loss or gradient is not finite.
            DisbandedError: The gang broke, or the window is no longer wanted.
        """
        codes = torch.from_numpy(self._prefetch.take(self._tasks(first, iterations)))
        self._prefetch.ahead(self._tasks(first + iterations, iterations))
        sums, broken = [], []
        for start in range(0, iterations, BLOCK):
            count = min(BLOCK, iterations - start)
            self._codes[:count].copy_(codes[start : start + count])
            block = range(first + start, first + start + count)
            self._rates[:count].copy_(self._rates_in(block))
            self._numbers[:count].copy_(self._numbers_in(block))
            self._at.zero_()
            for iteration in block:
                self._once(others, self._recipe.algorithm.phase(iteration))
            others.check()
            sums.append(self._sums[:count].clone())
            broken.append(self._broken[:count].clone())
        self._wait(others)
        self._check(others, first, torch.cat(broken).cpu().numpy())
        means = torch.cat(sums).cpu().numpy() / self._recipe.meta.batch
        return tuple(Record(first + place, loss, accuracy) for place, (loss, accuracy) in enumerate(means.tolist()))

    def _tasks(self, first: int, iterations: int) -> RankTasks:
        batch = self._recipe.meta.batch
        return RankTasks(first * batch, iterations, batch, self._chunks)

    def _rates_in(self, iterations: range) -> Tensor:
        """The rates of some iterations, `[iterations, 3]`."""
        meta = self._recipe.meta
        rates = [rates_at(iteration, meta.lr_at(iteration), meta.optimizer, meta.average) for iteration in iterations]
        return torch.from_numpy(np.array(rates, np.float32))

    def _numbers_in(self, iterations: range) -> Tensor:
        """By what some iterations differ from others of their phase, `[iterations, n]`."""
        return torch.from_numpy(np.array([self._recipe.algorithm.numbers(each) for each in iterations], np.float32))

    def _once(self, others: Others, phase: Hashable) -> None:
        if self._share.ranks == 1:
            self._alone(phase)()
            return
        counts = [[rank for rank, _ in self._left].count(rank) for rank in range(self._share.ranks)]
        others.swap(self._before(phase)(), self._found, counts)
        self._after()
        others.gather_into(self._parameters, self._own.parameters)

    def _iteration(self, phase: Hashable) -> None:
        """A meta-iteration of a rank that is alone."""
        self._advance(fold_all(self._compute(phase)))
        self._parameters.copy_(self._own.parameters)

    def _adapt(self, phase: Hashable) -> Tensor:
        """The rank's sums, folded ahead and cut up for the ranks: `[ranks, sums, segment + FACTS]`."""
        parts, _ = fold_ahead(self._compute(phase), self._share.owners, self._share.rank)
        ranks, length = self._share.ranks, len(self._own.parameters)
        rows = self._found.new_zeros(ranks, len(parts), length + FACTS)
        for place, part in enumerate(parts):
            padded = torch.nn.functional.pad(part.gradient, (0, ranks * length - self.size))
            rows[:, place, :length] = padded.view(ranks, length)
            rows[:, place, length:] = torch.stack([part.loss, part.accuracy]).view(torch.float32)
        return rows

    def _step(self) -> None:
        """Fold the rank's segment of all ranks' sums, and step it."""
        length = len(self._own.parameters)
        facts = self._found[:, length:].contiguous().view(torch.float64)
        sums = [
            ChunkSum(row[:length], loss, accuracy, tasks)
            for row, (loss, accuracy), (_, tasks) in zip(self._found, facts, self._left, strict=True)
        ]
        self._advance(fold_all(sums))

    def _compute(self, phase: Hashable) -> Sequence[ChunkSum]:
        """The sums of the rank's chunks."""
        codes, numbers = (block.index_select(0, self._at)[0] for block in (self._codes, self._numbers))
        algorithm, parameters, sums, broken = self._recipe.algorithm, self._parameters[: self.size], [], []
        counts = [last - first for first, last in self._chunks]
        for count, (begin, end) in zip(counts, pairwise(accumulate(counts, initial=0)), strict=True):
            tasks = self._resident.tasks(codes[begin:end], self._recipe.train)
            found = algorithm.gradient_in_phase(phase, numbers, self._network, parameters, tasks)
            sums.append(ChunkSum(found.gradient, found.losses.double().sum(), found.accuracies.double().sum(), count))
            finite = found.losses.isfinite()
            untold = finite.all() & ~found.gradient.isfinite().all()  # whose gradient overflowed can't be told
            broken.append(~finite | untold)
        if broken:
            self._broken.index_copy_(0, self._at, torch.cat(broken)[None])
        return sums

    def _advance(self, total: ChunkSum) -> None:
        """Step the rank's segment, and go on to the next iteration."""
        meta = self._recipe.meta
        rates = Rates(*self._rates.index_select(0, self._at)[0].unbind())
        now = moved(self._own, total.gradient / self._batch, rates, meta.optimizer, meta.average > 0)
        for here, there in zip(self._own, now, strict=True):
            here.copy_(there)
        self._sums.index_copy_(0, self._at, torch.stack([total.loss, total.accuracy])[None])
        self._at += 1

    def _wait(self, others: Others) -> None:
        """Wait for the device, which is far behind, as long as the window is wanted."""
        if not self._parameters.is_cuda:
            return
        done = torch.cuda.Event()
        done.record()
        looked = time.monotonic()
        while not done.query():
            time.sleep(0.001)
            if time.monotonic() - looked > LOOK:
                others.check()
                looked = time.monotonic()

    def _check(self, others: Others, first: int, broken: Any) -> None:
        """Raise, on all ranks, where a task of any broke, naming those of the first such iteration."""
        bad = broken.any(1).nonzero()[0]
        mine = np.array([bad[0] if len(bad) else len(broken)])
        place = int(others.all_gather(mine).min()) if self._share.ranks > 1 else int(mine[0])
        if place == len(broken):
            return
        batch = np.zeros(self._recipe.meta.batch, np.uint8)
        batch[[task for chunk in self._chunks for task in range(*chunk)]] = broken[place]
        if self._share.ranks > 1:
            batch = others.all_gather(batch).max(0)
        offset = (first + place) * len(batch)
        raise not_finite(first + place, (offset + batch.nonzero()[0]).tolist())


def compute_alone(recipe: Recipe, state: State, iterations: int, check: Callable[[], None]) -> State:
    """Some more meta-iterations, all on this process's device.

    Args:
        recipe: What the run's numbers depend on, see `suits`.
        state: The state to start from.
        iterations: How many.
        check: Raises where nobody waits for them any more.
    """

    def wanted() -> bool:
        check()
        return True

    loop = _loop_alone(recipe, len(state.parameters))
    with work.at_the_bench(recipe, Stream.TRAIN, state.iteration * recipe.meta.batch):
        loop.stand(state.parameters, state)
        records = loop.window(Others(None, 0, 1, wanted), state.iteration, iterations)
        _, own = loop.standing()
    return State(state.iteration + iterations, *own, records=(*state.records, *records))


@lru_cache(maxsize=2)
def _loop_alone(recipe: Recipe, size: int) -> DeviceLoop:
    chunks = tuple(recipe.meta.chunks())
    return DeviceLoop(recipe, work.bench(recipe), Share(0, 1, chunks, (0,) * len(chunks)), size)
