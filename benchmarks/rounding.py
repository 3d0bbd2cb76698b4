"""How far float32 meta-gradients are from float64's: `python -m benchmarks.rounding`.

Of each of some tasks, MAML's exact meta-gradient by PyTorch's automatic differentiation, by Fanfold one task after
another, and by Fanfold several at once, each in float32, and its distance from automatic differentiation's in float64,
as a share of the length. Rounding alone makes it some millionths. Where an activation, or the largest of a pooling
window, is within rounding of the other side, it may fall there, and what the inner steps make of that may be anything:
so the number of tasks above a thousandth is told beside the quantiles.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from benchmarks.gpu.problem import SIZE, difference, module_of, tasks_of
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import write_json
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import as_network
from fanfold.workflows.benchmark.cluster import check_folder
from fanfold.workflows.benchmark.peers.loop import prepare
from fanfold.workflows.benchmark.peers.settings import SETTINGS, Setting
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment

FAR = 1e-3


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.rounding", __doc__ or "", argv, [])
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS], choices=SETTINGS, help="whose tasks")
    parser.add_argument("--tasks", type=int, default=24, help="how many of each setting")
    parser.add_argument("--out", type=Path, default=Path("rounding.json"), help="the figures as JSON")
    options = parse(parser, argv)
    if options.tasks < 1:
        raise FanfoldError(f"--tasks must be at least 1, not {options.tasks}.")
    check_folder(options.out)
    torch.set_num_threads(1)
    found = {}
    for name in options.settings:
        print(f"({name}) {SETTINGS[name]}\n{'':31}median      90 %      most   above {FAR:g}")
        found[name] = distances(SETTINGS[name], options.tasks)
        for side, each in found[name].items():
            quantiles = "  ".join(f"{value:8.1e}" for value in np.quantile(each, [0.5, 0.9, 1]))
            print(f"    {side:<25} {quantiles}   {sum(value > FAR for value in each)} of {len(each)}", flush=True)
    write_json(options.out, {"tasks": options.tasks, "distances": found, "environment": environment()})


def distances(setting: Setting, count: int) -> dict[str, list[float]]:
    """Each side's distance from float64's gradient, task by task."""
    module, exact_module = module_of(setting), module_of(setting).double()
    rate, steps = setting.algorithm.inner_lr, setting.algorithm.inner_steps
    exact, autograd = prepare(exact_module, rate, steps), prepare(module, rate, steps)
    network, parameters = as_network(module, SIZE, setting.shape.ways), parameters_to_vector(module.parameters())

    def own(tasks: TaskBatch) -> torch.Tensor:
        return setting.algorithm.meta_gradient(network, parameters.detach(), 0, tasks).gradient

    found: dict[str, list[float]] = {"automatic differentiation": [], "one by one": [], "several at once": []}
    for one in tasks_of(setting.shape, count, torch.device("cpu")).parts(1):
        expected = exact(replace(one, support=one.support.double(), query=one.query.double()))
        twice = replace(one, support=one.support.repeat(2, 1, 1, 1, 1), query=one.query.repeat(2, 1, 1, 1, 1))
        sides = autograd(one), own(one), own(twice) / 2
        for name, gradient in zip(found, sides, strict=True):
            found[name].append(difference(gradient, expected))
    return found


if __name__ == "__main__":
    run(main)
