"""Seconds that something takes on a device."""

import math
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.part import Options, Row

BUDGET, REHEARSED = 0.4, 0.01  # seconds to spend on a measurement, about
GROUP = 0.01  # seconds that calls are timed together for, at least: an event costs microseconds itself
FEWEST, GROUPS = 3, 15  # groups whose median is taken


def rate_of(compute: Callable[[], object], tasks: int, options: Options) -> Row:
    """How long a call takes that computes some tasks: the first, and the median of others."""
    began = time.perf_counter()
    compute()
    if options.on_cuda:
        torch.cuda.synchronize()
    first = time.perf_counter() - began
    seconds = seconds_of(compute, options)
    return {"ms": 1000 * seconds, "tasks/s": tasks / seconds, "first call, s": first}


def seconds_of(compute: Callable[[], object], options: Options) -> float:
    """Seconds of one call: the median of groups of calls one after the other, after two that aren't timed."""
    for _ in range(2):
        compute()
    return median_of(lambda calls: _seconds(compute, calls, options.place), options)


def median_of(timed: Callable[[int], float], options: Options) -> float:
    """The median of the seconds of a call, by groups of as many calls as one call's time suggests.

    Args:
        timed: The seconds of so many calls, one after the other.
        options: Where it computes.
    """
    once, budget = max(timed(1), 1e-7), BUDGET if options.on_cuda else REHEARSED
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
