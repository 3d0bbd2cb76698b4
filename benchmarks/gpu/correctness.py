"""Whether the device computes what it should: single products, meta-gradients, and the suite's tests marked `gpu`.

MAML's gradient is compared with a plain loop over PyTorch's own autograd in float64 on the CPU, by each set of kernels,
and in float64 by PyTorch's operations, where only rounding may differ. A number near a tie may fall on the other side
of ReLU or pooling, and inner steps carry that on: so what is allowed grows with the steps. Tensor cores take 11 bits of
a number and drop the others, which brings many more to the other side: a whole gradient in `tf32` is told and decides
nothing. What decides there is each single product.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.gpu.part import Job, Options, Row, need_cuda
from benchmarks.gpu.problem import (
    difference,
    exact_gradient,
    kernel_sets,
    meta_gradient_of,
    module_of,
    network_of,
    tasks_of,
)
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.derivatives.backends import TORCH
from fanfold.tasks.derivatives.protocol import Products
from fanfold.tasks.device.cuda_graph import Captured
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from fanfold.workflows.benchmark.peers.settings import Setting

SHAPE = EpisodeShape(5, 1, 2)
WAYS: tuple[Literal["reverse", "mixed"], ...] = ("reverse", "mixed")
EXACT = 1e-9  # of a gradient in float64, relative
ALLOWED = (2e-3, 5e-2)  # of a gradient in float32, relative, after one inner step, and after several
SINGLE = {"float32": 1e-5, "tf32x3": 1e-4, "tf32": 3e-3}  # of a single product, relative
PLACES = ((14, 1), (7, 1), (3, 1), (14, 2))  # sides of a block's inputs, and strides, of the built-in networks
PYTEST = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", "--tb", "short", "-n0"]

Model = Conv4 | Conv4Stride | Article


def short(options: Options) -> list[Job]:
    """The single products, and a gradient of one step: what tells within seconds whether anything is right."""
    return [*products(options), _gradients(Conv4(), 1, WAYS[:1], options)]


def whole(options: Options) -> list[Job]:
    """Every built-in network, by every set of kernels, both ways through inner steps."""
    models: tuple[Model, ...] = (Conv4(), Conv4Stride(), Article())
    steps = (5, 1) if options.on_cuda else (2,)
    return [_gradients(model, count, WAYS, options) for model, count in product(models, steps)]


def products(options: Options) -> list[Job]:
    """Each set's products of a convolution, beside float64's on the CPU."""
    jobs = []
    for name, kernels in kernel_sets(options.place).items():
        allowed = SINGLE[_precision(name)]
        find = partial(errors_of_products, kernels.products, allowed, options)
        jobs.append(Job({"products": name, "allowed": allowed}, find))
    return jobs


def errors_of_products(own: Products, allowed: float, options: Options) -> Iterator[Row]:
    """The relative errors of three products, of normal numbers, a row for each size."""
    generator = torch.Generator().manual_seed(0)
    tasks, images, channels = (32, 5, 64) if options.on_cuda else (2, 2, 16)
    for side, stride in PLACES:
        outputs = (side - 1) // stride + 1
        shapes = (tasks, images, side, side, channels), (tasks, images, outputs, outputs, channels)
        inputs, d_outputs = (torch.randn(shape, generator=generator) for shape in shapes)
        weights = torch.randn(tasks, channels, channels, 3, 3, generator=generator)
        exact, found = (
            _three_products(of, [part.to(where) for part in (inputs, d_outputs, weights)], stride)
            for of, where in ((TORCH.products, torch.float64), (own, options.place))
        )
        errors = [difference(one, other) for one, other in zip(found, exact, strict=True)]
        named = dict(zip(("forward", "by inputs", "by filters"), errors, strict=True))
        yield {"side": side, "stride": stride, **named, "passed": max(errors) <= allowed}


def _three_products(of: Products, given: Sequence[Tensor], stride: int) -> list[Tensor]:
    inputs, d_outputs, weights = given
    maps, d_maps = of.join(inputs), of.join(d_outputs)
    filters = of.of_tasks(torch.stack([of.lay_out(weight) for weight in weights]), maps)
    outputs = of.convolve([(maps, filters)], stride, 1)
    d_inputs, d_filters = of.backward([(maps, filters, d_maps)], stride, 1)
    restored = torch.stack([of.restore(filters) for filters in d_filters])
    return [of.split(outputs, weights.shape[1]), of.split(d_inputs, weights.shape[2]), restored]


def _gradients(model: Model, steps: int, ways: Sequence[Literal["reverse", "mixed"]], options: Options) -> Job:
    model = model if options.on_cuda else replace(model, width=16)
    what = {"algorithm": "maml", "network": model.name, "steps": steps}
    return Job(what, partial(_maml, model, steps, ways, options))


def _maml(model: Model, steps: int, ways: Sequence[Literal["reverse", "mixed"]], options: Options) -> Iterator[Row]:
    """Each way to differentiate, by each set of kernels."""
    maml, sets, count = Maml(inner_lr=0.1, inner_steps=steps), kernel_sets(options.place), 16 if options.on_cuda else 2
    tasks = tasks_of(SHAPE, count, options.place)
    setting = Setting(SHAPE, maml, model)
    expected, start = exact_gradient(setting, count, torch.device("cpu")), module_of(setting)
    kinds = [*((name, torch.float32) for name in sets), ("plain", torch.float64)]
    for way, (name, dtype) in product(ways, kinds):
        algorithm, exact = replace(maml, differentiation=way), dtype == torch.float64
        compute = meta_gradient_of(algorithm, network_of(setting, sets[name], options.place, dtype), tasks)
        theta = torch.nn.utils.parameters_to_vector(start.parameters()).detach()
        arguments = [part.to(options.place, dtype) for part in (theta, tasks.support, tasks.query)]
        first, again = (compute(*arguments)[0].clone() for _ in range(2))
        error, same = difference(first, expected), torch.equal(first, again)
        replayed = Captured(compute, options.place)
        apart = difference([replayed(*arguments)[0].clone() for _ in range(3)][-1], first)
        allowed = EXACT if exact else None if _precision(name) == "tf32" else ALLOWED[steps > 1]
        yield {
            "way": way,
            "kernels": f"{name} float64" if exact else name,
            "difference": error,
            "captured apart by": apart,
            "same bits twice": same,
            "allowed": allowed,  # none where the difference decides nothing
            "passed": same and (allowed is None or max(error, apart) <= allowed),
        }


def _precision(kernels: str) -> str:
    return kernels.split()[-1] if kernels.startswith("fused") else "float32"


def suite(options: Options) -> list[Job]:
    """The suite's tests that are marked `gpu`, by file."""
    files = [path for path in sorted(Path("tests").rglob("test_*.py")) if _concerned(path.read_text())]
    return [Job({"tests": str(path)}, partial(_tests, path, options)) for path in files]


def _concerned(text: str) -> bool:
    """Whether a file may have such tests, and can be collected without a browser, which few GPU machines have."""
    return re.search(r"(?i)mark.*\bgpu\b", text) is not None and "tests.browser" not in text


def _tests(path: Path, options: Options) -> Iterator[Row]:
    need_cuda(options)
    yield from run_tests([*PYTEST, str(path)])


def run_tests(command: Sequence[str]) -> Iterator[Row]:
    """A row for each test, as soon as pytest has told its result."""
    process, lines = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True), []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if found := re.match(r"\S+?::(.+) (PASSED|FAILED|ERROR)\b", lines[-1]):
                yield {"test": found[1], "passed": found[2] == "PASSED"}
            elif found := re.match(r"(?:FAILED|ERROR) \S+?::(.+?) - (.*)", lines[-1]):
                yield {"test": found[1], "passed": False, "said": found[2][:200]}
        status = process.wait()
    finally:
        process.kill()
    if status not in (0, 5):  # 5: no test of the file is marked
        yield {"test": "all of them", "passed": False, "said": lines[-1] if lines else f"status {status}"}
