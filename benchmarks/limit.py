"""How near the computation of a meta-gradient comes to what the machine can do: `python -m benchmarks.limit`.

Counts the operations of convolutions and matrix products in a task's exact MAML meta-gradient, measures the rate of a
large convolution and of a large matrix product, each with one thread, and sets the measured time of a task beside the
time that its operations would take at the better of the two rates. Tasks are computed one by one, and a few at once.
Also measured: the same by PyTorch's automatic differentiation, on the same network, in the same run. All with memory
allocated as on a worker that Fanfold starts.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.problem import SIZE, tasks_of
from fanfold.pipeline.cluster.preload import WORKER_ENVIRONMENT
from fanfold.pipeline.files import write_json
from fanfold.tasks.algorithm import MetaGradient
from fanfold.tasks.algorithms import maml_vectorized
from fanfold.tasks.algorithms.maml import CPU_TASKS, Maml
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Article, Conv4, Conv4Stride, Model, build_network
from fanfold.tasks.network import as_network
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment


@dataclass(frozen=True)
class Setting:
    """A task, a network, and how many inner steps."""

    name: str
    model: Model
    shape: EpisodeShape
    steps: int


SETTINGS = (
    Setting("5-way 1-shot, 1 query, 1 step", Conv4(), EpisodeShape(5, 1, 1), 1),
    Setting("5-way 1-shot, 15 queries, 5 steps", Conv4(), EpisodeShape(5, 1, 15), 5),
    Setting("20-way 1-shot, 5 queries, 5 steps", Conv4(), EpisodeShape(20, 1, 5), 5),
    Setting("5-way 1-shot, 1 query, 1 step, strides", Conv4Stride(), EpisodeShape(5, 1, 1), 1),
    Setting("5-way 1-shot, 1 query, 1 step, article", Article(), EpisodeShape(5, 1, 1), 1),
)


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.limit", __doc__ or "", argv, [])
    parser.add_argument("--rounds", type=int, default=7, help="each is measured so often")
    parser.add_argument("--out", type=Path | None, default=None, help="where to write the result as JSON")
    options = parse(parser, argv)
    if WORKER_ENVIRONMENT.items() - os.environ.items():  # which the allocator reads where a process begins
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.limit", *argv], os.environ | WORKER_ENVIRONMENT)
    torch.set_num_threads(1)
    rates = {"convolution": convolution_rate(options.rounds), "matrix product": product_rate(options.rounds)}
    print("rates: " + ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()))
    print(f"{'':40} GFLOP  limit  one by one  {CPU_TASKS} at once  gain  of limit  autograd  ratio   (ms a task)")
    rows = []
    for setting in SETTINGS:
        row = measure(setting, max(rates.values()), options.rounds)
        rows.append({"setting": setting.name, **row})
        print(
            f"{setting.name:40} {row['flop'] / 1e9:5.2f} {1000 * row['limit']:6.1f} {1000 * row['seconds']:11.1f} "
            f"{1000 * row['at_once_seconds']:10.1f} {row['gain']:5.2f} "
            f"{row['limit'] / min(row['seconds'], row['at_once_seconds']):9.0%} "
            f"{1000 * row['autograd_seconds']:9.1f} {row['ratio']:6.2f}",
            flush=True,
        )
    if options.out:
        write_json(options.out, {"rates": rates, "settings": rows, "environment": environment()})


def measure(setting: Setting, rate: float, rounds: int) -> dict[str, float]:
    """Operations of a task, and the seconds they would take at a rate, and those that they do take, in three ways.

    `ratio` is automatic differentiation's seconds to those of a task by itself, `gain` the latter's to those of a task
    of `CPU_TASKS`.
    """
    ways, cpu = setting.shape.ways, torch.device("cpu")
    network = as_network(build_network(setting.model, ways, SIZE, 0), SIZE, ways)
    stack = network.stack
    assert stack is not None
    plain = replace(network, stack=None)
    order: Literal["reverse"] = "reverse"
    algorithm = Maml(inner_lr=0.1, inner_steps=setting.steps, differentiation=order)
    parameters = algorithm.initialize(network)
    few, one = (tasks_of(setting.shape, count, cpu) for count in (CPU_TASKS, 1))

    def of_tasks(tasks: TaskBatch, at_once: int) -> MetaGradient:
        how = algorithm.inner_lr, setting.steps, order, at_once
        return maml_vectorized.meta_gradient(stack, parameters, tasks, *how)

    with FlopCounterMode(display=False) as counter:
        of_tasks(one, 1)
    flop = float(counter.get_total_flops())
    found = [
        (
            _seconds(lambda: of_tasks(few, 1), times=2) / CPU_TASKS,
            _seconds(lambda: of_tasks(few, CPU_TASKS), times=2) / CPU_TASKS,
            _seconds(lambda: algorithm.meta_gradient(plain, parameters, 0, one)),
        )
        for _ in range(rounds)
    ]
    seconds, at_once_seconds, autograd_seconds = (statistics.median(way) for way in zip(*found, strict=True))
    return {
        "flop": flop,
        "limit": flop / rate,
        "seconds": seconds,
        "at_once_seconds": at_once_seconds,
        "gain": statistics.median(alone / at_once for alone, at_once, _ in found),
        "autograd_seconds": autograd_seconds,
        "ratio": statistics.median(autograd / alone for alone, _, autograd in found),
    }


def convolution_rate(rounds: int) -> float:
    """Operations a second of a 3 × 3 convolution, 64 channels to 64, of 75 pictures of 14 × 14."""
    pictures, weight = (
        torch.rand(shape).to(memory_format=torch.channels_last) for shape in ((75, 64, 14, 14), (64, 64, 3, 3))
    )
    flop = 2 * 75 * 14 * 14 * 64 * 64 * 9
    return flop / min(_seconds(lambda: conv2d(pictures, weight, padding=1)) for _ in range(rounds))


def product_rate(rounds: int) -> float:
    """Operations a second of a product of matrices of 2,048 × 2,048."""
    matrix = torch.rand(2048, 2048)
    return float(2 * 2048**3 / min(_seconds(lambda: matrix @ matrix, times=1) for _ in range(rounds)))


def _seconds(compute: Callable[[], object], times: int = 5) -> float:
    """Seconds of one computation, the mean of some after a first."""
    compute()
    began = time.perf_counter()
    for _ in range(times):
        compute()
    return (time.perf_counter() - began) / times


if __name__ == "__main__":
    run(main)
