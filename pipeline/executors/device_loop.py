"""A rank's meta-iterations on its device: nothing comes back to the host before the window's end.

The host draws the window's tasks as numbers, and sends all that differs between its iterations before the first. An
iteration is one CUDA graph: gather the images, compute the chunks' sums, fold, step. Where there are other ranks it is
two, with an exchange between them. On a CPU the same functions are called plainly. Folds and steps have the order of
every executor's, and so the parameters have the same bits.

A device that waits for a lost rank never ends, and whatever waits for it on the host, as a copy does or a launch into a
full queue, can't be called off. So the host copies to an idle device alone, is never far ahead of it, and waits by
asking whether it is done.
"""

import time
import weakref
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache, partial
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fanfold.pipeline import worker
from fanfold.pipeline.executors.communicator import Communicator
from fanfold.pipeline.executors.member_loop import Check, MemberLoop, raise_not_finite
from fanfold.pipeline.executors.segments import FACTS, Share, pack, unpack
from fanfold.pipeline.executors.stopwatch import Stopwatch
from fanfold.pipeline.fold import ChunkSum, fold_ahead, fold_all
from fanfold.pipeline.optimizer import Rates, Record, State, Vector, Vectors, moved, rates_at
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.algorithm import MetaGradient
from fanfold.tasks.derivatives import backends
from fanfold.tasks.device.cuda_graph import Captured
from fanfold.tasks.device.prefetch import Prefetch, RankTasks, TaskSource, draw_codes
from fanfold.tasks.episodes import Stream

BLOCK = 256  # iterations whose tasks are sent to the device at a time, at most
AHEAD = 32  # iterations between two marks: the host launches at most twice as many before the device is done with them
PLAIN = 2  # first calls of a phase, before which the device must be idle: the second one captures its graph
POLL_SECONDS = 0.05  # between two checks that a window is still wanted


class Mark(Protocol):
    """A place in what a device was told to do."""

    def query(self) -> bool:
        """Whether the device has come so far."""


class Passed:
    """The mark of a device that does at once what it is told."""

    def query(self) -> bool:
        return True


def suits(recipe: Recipe, opened: worker.WorkerContext) -> bool:
    """Whether a run's windows may be computed by a `DeviceLoop`.

    The tasks must be vectorized, the images must lie on the device, the algorithm must have phases, and the network
    must draw nothing at random.
    """
    return opened.resident is not None and not opened.network.draws and recipe.algorithm.phase(0) is not None


class DeviceLoop(MemberLoop):
    """A rank's part of a run's windows, on its device, for recipes that it `suits`."""

    def __init__(self, recipe: Recipe, share: Share, size: int) -> None:
        super().__init__(recipe, share, size)
        opened = worker.open_context(recipe)
        assert opened.resident is not None
        self._network, self._resident, self._chunks = opened.network, opened.resident, share.own
        device, shape = opened.resident.pixels.device, recipe.train
        classes, counts = opened.classes(Stream.TRAIN), opened.images.counts
        source = TaskSource(recipe.seed, Stream.TRAIN, shape, classes, counts, opened.resident.first)
        self._prefetch = Prefetch(partial(draw_codes, source))
        empty = partial(torch.zeros, device=device)
        self._own = Vectors(*(empty(self._length) for _ in range(4)))
        alone = share.ranks == 1
        self._parameters = self._own.parameters if alone else empty(self._length * share.ranks)
        # Blocks hold what differs between iterations; `_at` is the place of the current one.
        tasks = sum(last - first for first, last in self._chunks)
        self._at = empty(1, dtype=torch.int64)
        self._codes = empty(BLOCK, tasks, shape.ways, shape.shots + shape.queries, dtype=torch.int32)
        self._rates = empty(BLOCK, len(Rates._fields))
        self._numbers = empty(BLOCK, len(recipe.algorithm.numbers(0)))
        self._sums = empty(BLOCK, 2, dtype=torch.float64)
        self._fused = backends.triton_runs(device)
        self._broken = empty(BLOCK, tasks, dtype=torch.uint8)
        self._overflowed = empty(BLOCK, len(self._chunks), self._parts(), dtype=torch.uint8)
        self._found = empty(len(self._left_tasks), self._length + FACTS)
        # A tensor: CUDA divides by a number of the host's by multiplying with its reciprocal, which rounds differently.
        self._batch = torch.tensor(float(recipe.meta.batch), device=device)
        self._differences = lru_cache(maxsize=2)(partial(_differences, recipe))  # of this block, and of the next one
        # What is captured has no hold on the loop: else the graphs' memory would be free only where Python looks for
        # circles, which it does not do for want of a GPU's memory.
        own = weakref.proxy(self)
        # One of each for every phase of the algorithm, and the step, which all phases share.
        self._alone = cache(lambda phase: Captured(lambda: own._iterate_alone(phase), device))
        self._before = cache(lambda phase: Captured(lambda: own._adapt(phase), device))
        self._after = Captured(lambda: own._step(), device)
        self._calls = Counter[Hashable]()  # by phase

    def start(self, parameters: Vector, segment: State) -> None:
        self._parameters.copy_(torch.tensor(parameters))
        for here, name in zip(self._own, Vectors._fields, strict=True):
            here.copy_(torch.tensor(getattr(segment, name)))
        self.iteration = segment.iteration

    @property
    def standing(self) -> tuple[Vector, State]:
        own = (vector.to("cpu", copy=True).numpy() for vector in self._own)
        return self._parameters.to("cpu", copy=True).numpy(), State(self.iteration, *own)

    def window(
        self, iterations: int, check: Check, stopwatch: Stopwatch, communicator: Communicator | None = None
    ) -> tuple[Record, ...]:
        first = self.iteration
        with worker.in_context(self._recipe, Stream.TRAIN, first * self._recipe.meta.batch):
            codes = torch.from_numpy(self._prefetch.take(self._tasks(first, iterations)))
            self._prefetch.ahead(self._tasks(first + iterations, iterations))
            sums, broken = [], []
            for start in range(0, iterations, BLOCK):
                count = min(BLOCK, iterations - start)
                block = range(first + start, first + start + count)
                self._send(codes[start : start + count], block)
                last = self._launch(block, check, communicator)
                left = iterations - start - count  # where none are left, a window as long as this one follows
                self._differences(range(block.stop, block.stop + min(BLOCK, left or iterations)))
                _wait(last, check)
                sums.append(self._sums[:count].to("cpu", copy=True))
                broken.append(self._broken_tasks(count))
        stopwatch.end("adapt")
        raise_not_finite(self._share, first, torch.cat(broken).numpy(), communicator)
        self.iteration = first + iterations
        means = torch.cat(sums).numpy() / self._recipe.meta.batch
        return tuple(Record(first + place, loss, accuracy) for place, (loss, accuracy) in enumerate(means.tolist()))

    def _tasks(self, first: int, iterations: int) -> RankTasks:
        batch = self._recipe.meta.batch
        return RankTasks(first * batch, iterations, batch, self._chunks)

    def _send(self, codes: Tensor, block: range) -> None:
        """Send an idle device what differs between some iterations."""
        rates, numbers = self._differences(block)
        self._codes[: len(block)].copy_(codes)
        self._rates[: len(block)].copy_(rates)
        self._numbers[: len(block)].copy_(numbers)
        self._at.zero_()

    def _launch(self, block: range, check: Check, communicator: Communicator | None) -> Mark:
        """Launch some iterations, never far ahead of the device; the last one's mark."""
        marks: deque[Mark] = deque()
        for iteration in block:
            phase = self._recipe.algorithm.phase(iteration)
            if self._calls[phase] < PLAIN:
                _wait(self._mark(), check)
            self._once(communicator, phase)
            self._calls[phase] += 1
            if (iteration - block.start) % AHEAD == AHEAD - 1 or iteration == block[-1]:
                check()
                marks.append(self._mark())
                if len(marks) > 1:
                    _wait(marks.popleft(), check)
        return marks.pop()

    def _mark(self) -> Mark:
        if not self._parameters.is_cuda:
            return Passed()
        mark = torch.cuda.Event()
        mark.record()
        return mark

    def _once(self, communicator: Communicator | None, phase: Hashable) -> None:
        if communicator is None or self._share.ranks == 1:
            self._alone(phase)()
            return
        communicator.exchange(self._before(phase)(), self._found, self._counts)
        self._after()
        communicator.gather_into(self._parameters, self._own.parameters)

    def _iterate_alone(self, phase: Hashable) -> None:
        """A meta-iteration of a rank that is alone."""
        self._advance(fold_all(self._compute(phase)))

    def _adapt(self, phase: Hashable) -> Tensor:
        """The rank's sums, folded ahead and packed for the ranks."""
        sums, _ = fold_ahead(self._compute(phase), self._share.owners, self._share.rank)
        return pack(sums, self._share.ranks, self._length, self._found.device)

    def _step(self) -> None:
        """Fold the rank's segment of all ranks' sums, and step it."""
        self._advance(fold_all(unpack(self._found, self._left_tasks, self._length)))

    def _compute(self, phase: Hashable) -> Sequence[ChunkSum]:
        """The sums of the rank's chunks."""
        codes = self._codes.index_select(0, self._at)[0]
        numbers = self._numbers.index_select(0, self._at)[0] if self._numbers.numel() else self._numbers[0]
        algorithm, parameters, sums = self._recipe.algorithm, self._parameters[: self._size], []
        for place, (begin, end) in enumerate(self._ranges()):
            tasks = self._resident.tasks(codes[begin:end], self._recipe.train)
            found = algorithm.gradient_in_phase(phase, numbers, self._network, parameters, tasks)
            loss, accuracy = self._note(found, self._broken[:, begin:end], self._overflowed[:, place])
            sums.append(ChunkSum(found.gradient, loss, accuracy, end - begin))
        return sums

    def _ranges(self) -> list[tuple[int, int]]:
        """First and last (exclusive) place of each of the rank's chunks among the rank's tasks."""
        return list(pairwise(accumulate((last - first for first, last in self._chunks), initial=0)))

    def _parts(self) -> int:
        """Parts in which a gradient is looked at."""
        if not self._fused:
            return 1
        from fanfold.pipeline.device_kernels import parts_of  # only here: elsewhere there may be no Triton

        return parts_of(self._size)

    def _note(self, found: MetaGradient, broken: Tensor, overflowed: Tensor) -> Tensor:
        """The sums of a chunk's losses and accuracies, `[2]`; what is not finite is noted for `_broken_tasks`."""
        if self._fused:
            from fanfold.pipeline.device_kernels import facts

            return facts(found, broken, overflowed, self._at)
        broken.index_copy_(0, self._at, (~found.losses.isfinite()).byte()[None])
        overflowed.index_copy_(0, self._at, (~found.gradient.isfinite().all()).byte().view(1, 1))
        return torch.stack([found.losses.double().sum(), found.accuracies.double().sum()])

    def _broken_tasks(self, count: int) -> Tensor:
        """Which of the rank's tasks have no finite loss or gradient in a block's first iterations, on the host."""
        broken, overflowed = (part[:count].to("cpu", copy=True).bool() for part in (self._broken, self._overflowed))
        for place, (begin, end) in enumerate(self._ranges()):
            own = broken[:, begin:end]
            # Where no task's loss tells whose gradient overflowed, all of the chunk may be.
            own |= (overflowed[:, place].any(1) & ~own.any(1))[:, None]
        return broken

    def _advance(self, total: ChunkSum) -> None:
        """Step the rank's segment, and go on to the next iteration."""
        meta = self._recipe.meta
        if self._fused:
            from fanfold.pipeline.device_kernels import step

            step(self._own, total, self._rates, self._sums, self._at, meta)
        else:
            rates = Rates(*self._rates.index_select(0, self._at)[0].unbind())
            now = moved(self._own, total.gradient / self._batch, rates, meta)
            for here, there in zip(self._own, now, strict=True):
                here.copy_(there)
            self._sums.index_copy_(0, self._at, torch.stack([total.loss, total.accuracy])[None])
        self._at += 1


def _differences(recipe: Recipe, block: range) -> tuple[Tensor, Tensor]:
    """The rates of some iterations, and the algorithm's numbers within its phase, `[iterations, …]`."""
    rates = [rates_at(iteration, recipe.meta) for iteration in block]
    numbers = [recipe.algorithm.numbers(iteration) for iteration in block]
    return torch.from_numpy(np.array(rates, np.float32)), torch.from_numpy(np.array(numbers, np.float32))


def _wait(mark: Mark, check: Check) -> None:
    """Wait for a mark as long as the window is wanted."""
    checked = time.monotonic()
    while not mark.query():
        time.sleep(0.001)
        if time.monotonic() - checked > POLL_SECONDS:
            check()
            checked = time.monotonic()
