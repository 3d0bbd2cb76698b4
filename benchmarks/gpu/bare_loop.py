"""Meta-iterations a second of a rank's own loop on its device, without Dask: what a run by Dask is held against."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.gpu.options import AbsentError, Options, Row
from benchmarks.gpu.window import training_flags
from fanfold.pipeline import worker
from fanfold.pipeline.configuration import SECTIONS
from fanfold.pipeline.executors.device_loop import suits
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.recipe import Recipe
from fanfold.workflows.cli.configuration import build_parser, decided, parse

WINDOWS = 4  # the first of which makes kernels and graphs ready
ITERATIONS = 2000  # of a window: a second, beside which the state's way to the device and back is nothing


def measure(options: Options) -> Iterator[Row]:
    """One row, of the run that the part `window` is."""
    recipe = _recipe(options)
    if not suits(recipe, worker.open_context(recipe)):
        raise AbsentError("this run's windows are not computed by a loop on the device")
    state, iterations, seconds = worker.initialize(recipe), 4 if options.quick else ITERATIONS, []
    executor = LocalExecutor(recipe)
    for _ in range(WINDOWS):
        began = time.perf_counter()
        state = executor.window(state, iterations).state
        seconds.append(time.perf_counter() - began)
    each = statistics.median(seconds[1:]) / iterations
    yield {"run": "the loop alone", "iterations/s": 1 / each, "tasks/s": recipe.meta.batch / each}


def _recipe(options: Options) -> Recipe:
    argv = training_flags(options)
    parser = build_parser("workflows.train", "", argv, SECTIONS)
    parser.add_argument("--seed", type=int, default=0)
    plan = decided(parse(parser, argv))
    return replace(plan.recipe, device=options.device)
