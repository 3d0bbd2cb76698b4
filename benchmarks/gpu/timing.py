"""Seconds that something takes on a device, and functions replayed there as CUDA graphs."""

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.gpu.options import Options

Function = Callable[..., tuple[Tensor, ...]]

BUDGET, QUICK = 0.4, 0.01  # seconds to spend on a measurement, about
GROUP = 0.01  # seconds that calls are timed together for, at least: an event costs microseconds itself
FEWEST, GROUPS = 3, 15  # groups whose median is taken


class Replayed:
    """A function of tensors, recorded as a CUDA graph when it is first called; on a CPU, the function itself.

    Like `tasks.device.cuda_graph.Captured`, but that what can't be recorded is an error: no plain call is timed for a
    graph.

    Args:
        function: Waits for nothing on the host, and gives tensors. They are overwritten by the next call.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the function gives for tensors of the shapes that it was first called with."""
        if not tensors[0].is_cuda:
            return self._function(*tensors)
        if self._graph is None:
            self._record(tensors)
        for own, given in zip(self._inputs, tensors, strict=True):
            own.copy_(given)
        assert self._graph is not None
        self._graph.replay()
        return self._outputs

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # libraries set themselves up in the first calls, which no graph may hold
            for _ in range(3):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._outputs = self._function(*self._inputs)
        self._graph = graph


def seconds_of(compute: Callable[[], object], options: Options) -> float:
    """Seconds of one call: the median of groups of calls one after the other, after one that isn't timed.

    Args:
        compute: What to call.
        options: Where it computes.
    """
    compute()
    return median_of(lambda calls: _seconds(compute, calls, options.place), options)


def median_of(timed: Callable[[int], float], options: Options) -> float:
    """The median of the seconds of a call, by groups of as many calls as one call's time suggests.

    Args:
        timed: The seconds of so many calls, one after the other.
        options: Where it computes.
    """
    once, budget = max(timed(1), 1e-7), QUICK if options.quick else BUDGET
    calls = max(1, math.ceil(min(GROUP, budget) / once))
    groups = max(FEWEST, min(GROUPS, int(budget / (calls * once))))
    known = [once] if calls == 1 else []
    return statistics.median([*known, *(timed(calls) / calls for _ in range(groups - len(known)))])


def _seconds(compute: Callable[[], object], calls: int, device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(calls):
            compute()
        return time.perf_counter() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(calls):
        compute()
    last.record()
    last.synchronize()
    milliseconds: float = first.elapsed_time(last)
    return milliseconds / 1000
