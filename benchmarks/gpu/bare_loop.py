"""Meta-iterations a second of a rank's own loop on its device, without Dask: what a run by Dask is held against."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.gpu.options import AbsentError, Options, Row
from benchmarks.gpu.window import training_flags
from pipeline import work
from pipeline.device_loop import DeviceLoop, Share, suits
from pipeline.exchange import Others, segment_size
from pipeline.optimizer import State
from pipeline.recipe import Recipe
from tasks.episodes import Stream
from workflows.configuration import build_parser, parse
from workflows.plan import SECTIONS, make_plan

WINDOWS = 6  # the first of which makes kernels and graphs ready


def measure(options: Options) -> Iterator[Row]:
    """One row, of the run that the part `window` is."""
    recipe = _recipe(options)
    opened = work.bench(recipe)
    if not suits(recipe, opened):
        raise AbsentError("this run's windows are not computed by a loop on the device")
    chunks, start = tuple(recipe.meta.chunks()), work.initialize(recipe)
    size, iterations = len(start.parameters), 4 if options.quick else 1000
    loop = DeviceLoop(recipe, opened, Share(0, 1, chunks, (0,) * len(chunks)), size)
    vectors = np.zeros((4, segment_size(size, 1)), np.float32)
    vectors[:, :size] = start.parameters, start.mean, start.square, start.average
    seconds, alone = [], Others(None, 0, 1, lambda: True)
    with work.at_the_bench(recipe, Stream.TRAIN, 0):
        loop.stand(vectors[0], State(0, *vectors))
        for window in range(WINDOWS):
            began = time.perf_counter()
            loop.window(alone, window * iterations, iterations)
            loop.standing()
            seconds.append(time.perf_counter() - began)
    each = statistics.median(seconds[1:]) / iterations
    yield {"run": "the loop alone", "iterations/s": 1 / each, "tasks/s": recipe.meta.batch / each}


def _recipe(options: Options) -> Recipe:
    argv = training_flags(options)
    parser = build_parser("workflows.train", "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0)
    plan = make_plan(parse(parser, argv))
    return replace(plan.recipe, device=options.device)
