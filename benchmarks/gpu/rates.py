"""What the device can do, and what Fanfold does on it: meta-gradients, meta-tests, memory, and where time goes."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.part import Job, Options, Row, need_cuda
from benchmarks.gpu.problem import (
    Gradient,
    difference,
    few,
    kernel_sets,
    meta_gradient_of,
    network_of,
    reference,
    setting_of,
    tasks_of,
)
from benchmarks.gpu.timing import rate_of, seconds_of
from fanfold.tasks.algorithms.support_loss import Differentiation
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.device.cuda_graph import Captured

LAUNCHES = 200  # in the graph whose time is shared among them
TOP = 15  # kernels that are named
STEPS = 3  # of a meta-test
WAYS: tuple[Differentiation, ...] = ("mixed", "reverse")


def ceilings(options: Options) -> list[Job]:
    """Rates of large products of matrices, bandwidth of a copy, the cost of a launch, in the unit that a row names."""
    products = [
        Job({"ceiling": f"matrix product, {name}", "unit": "TFLOP/s"}, partial(_product, name, options))
        for name in ("float32", "tf32", "bf16")
    ]
    copy = Job({"ceiling": "copy", "unit": "GB/s"}, partial(_copy, options))
    return [*products, copy, Job({"ceiling": "launch in a graph", "unit": "µs"}, partial(_launch, options))]


def _product(name: str, options: Options) -> Row:
    """Operations a second, of random numbers, as zeros go faster."""
    side, dtype = 8192 if options.on_cuda else 256, torch.bfloat16 if name == "bf16" else torch.float32
    one, other = (torch.randn(side, side, device=options.place).to(dtype) for _ in range(2))
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    try:
        return {"value": 2 * side**3 / seconds_of(lambda: one @ other, options) / 1e12}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _copy(options: Options) -> Row:
    """Bytes a second, those read and those written."""
    source = torch.randn(1 << (30 if options.on_cuda else 20), device=options.place)  # 4 GiB, far beyond any cache
    target = torch.empty_like(source)
    return {"value": 2 * source.nbytes / seconds_of(lambda: target.copy_(source), options) / 1e9}


def _launch(options: Options) -> Row:
    """From one launch of a kernel that does next to nothing to that of the next, in a graph of them."""

    def launches(value: Tensor) -> tuple[Tensor]:
        for _ in range(LAUNCHES):
            value = value + 1
        return (value,)

    replayed, value = Captured(launches, options.place), torch.zeros(1, device=options.place)
    return {"value": 1e6 * seconds_of(lambda: replayed(value), options) / LAUNCHES}


def fanfold(options: Options) -> list[Job]:
    """Setting (a): every set of kernels for a meta-batch, the fastest for many tasks, and called plainly, too."""
    fastest, *others = reversed(kernel_sets(options.place))
    jobs = [_meta_gradient("a", few(options), fastest, options)]
    jobs += [_meta_gradient("a", tasks, fastest, options) for tasks in ((512, 2048) if options.on_cuda else ())]
    jobs += [_meta_gradient("a", few(options), kernels, options) for kernels in others]
    return [*jobs, _meta_gradient("a", few(options), fastest, options, captured=False)]


def others(options: Options) -> list[Job]:
    """The other settings, by the fastest kernels."""
    *_, fastest = kernel_sets(options.place)
    return [_meta_gradient(name, few(options), fastest, options) for name in ("b", "c", "d")]


def _meta_gradient(name: str, tasks: int, kernels: str, options: Options, captured: bool = True) -> Job:
    side = f"fanfold {kernels}, {'captured' if captured else 'plain calls'}"
    measure = partial(_measured, name, tasks, kernels, captured, options)
    return Job({"setting": name, "tasks": tasks, "side": side}, measure)


def _measured(name: str, tasks: int, kernels: str, captured: bool, options: Options) -> Row:
    compute, (parameters, support, query) = _computation(name, tasks, kernels, options)
    call = Captured(compute, options.place) if captured else compute
    row = rate_of(lambda: call(parameters, support, query), tasks, options)
    first = few(options)
    same = call if tasks == first else compute  # a graph is of all its tasks
    error = difference(same(parameters, support[:first], query[:first])[0], reference(name, options))
    return row | {"difference": error}


def _computation(
    name: str, tasks: int, kernels: str, options: Options
) -> tuple[Gradient, tuple[Tensor, Tensor, Tensor]]:
    """A setting's meta-gradient by a set of kernels, and its arguments."""
    setting, place = setting_of(name, options), options.place
    network = network_of(setting, kernel_sets(place)[kernels], place)
    batch = tasks_of(setting.shape, tasks, place)
    parameters = setting.algorithm.initialize(network)
    return meta_gradient_of(setting.algorithm, network, batch), (parameters, batch.support, batch.query)


def meta_test(options: Options) -> list[Job]:
    """Tasks that are learned and predicted: MAML, 5-way 1-shot, 1 query a class, 3 inner steps."""
    *_, fastest = kernel_sets(options.place)
    sizes = (4096, 512) if options.on_cuda else (2,)
    return [
        Job({"tasks": tasks, "side": f"fanfold {fastest}"}, partial(_tested, tasks, fastest, options))
        for tasks in sizes
    ]


def _tested(count: int, kernels: str, options: Options) -> Row:
    setting, place = setting_of("a", options), options.place
    algorithm = replace(setting.algorithm, inner_lr=0.1)
    network = network_of(setting, kernel_sets(place)[kernels], place)
    parameters, tasks = algorithm.initialize(network), tasks_of(setting.shape, count, place)

    def logits(parameters: Tensor, support: Tensor, query: Tensor) -> tuple[Tensor]:
        batch = TaskBatch(support, tasks.support_labels, query, tasks.query_labels, tasks.ways)
        found = algorithm.logits(network, parameters, batch, STEPS)
        assert found is not None
        return (found,)

    replayed = Captured(logits, options.place)
    return rate_of(lambda: replayed(parameters, tasks.support, tasks.query), count, options)


def memory(options: Options) -> list[Job]:
    """The most memory that a meta-gradient takes as inner steps grow, of 32 5-way 1-shot tasks with 15 queries."""
    *_, fastest = kernel_sets(options.place)
    return [Job({"kernels": fastest, "way": way}, partial(_peaks, fastest, way, options)) for way in WAYS]


def _peaks(kernels: str, way: Differentiation, options: Options) -> Iterator[Row]:
    """Megabytes over those of tasks, parameters and libraries; a row for each number of steps."""
    need_cuda(options)
    setting = setting_of("b", options)
    network = network_of(setting, kernel_sets(options.place)[kernels], options.place)
    tasks, first = tasks_of(setting.shape, 32, options.place), None
    for steps in (1, 5, 20):
        algorithm = replace(setting.algorithm, inner_steps=steps, differentiation=way)
        compute = meta_gradient_of(algorithm, network, tasks)
        peak = _peak(partial(compute, algorithm.initialize(network), tasks.support, tasks.query))
        first = first or peak
        yield {"steps": steps, "MB": peak, "× the first": peak / first}


def _peak(compute: Callable[[], object]) -> float:
    compute()  # libraries take their workspaces
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    compute()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def kernels(options: Options) -> list[Job]:
    """Where the time of a meta-batch's gradient goes; leaves a trace beside the report, for Chrome or Perfetto."""
    *_, fastest = kernel_sets(options.place)
    return [Job({"setting": "a", "tasks": few(options)}, partial(_profiled, fastest, options))]


def _profiled(own: str, options: Options) -> Iterator[Row]:
    compute, arguments = _computation("a", few(options), own, options)
    replayed, replays = Captured(compute, options.place), 10 if options.on_cuda else 1
    for _ in range(3):
        replayed(*arguments)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.on_cuda else [])]
    with profile(activities=activities, acc_events=True) as found:
        for _ in range(replays):
            replayed(*arguments)
        if options.on_cuda:
            torch.cuda.synchronize()
    found.export_chrome_trace(f"{options.out}-trace.json.gz")
    on_device = [row for row in found.key_averages() if (row.device_type.name == "CUDA") == options.on_cuda]
    spent = {row.key: row.self_device_time_total if options.on_cuda else row.self_cpu_time_total for row in on_device}
    launches, total = {row.key: row.count / replays for row in on_device}, sum(spent.values())
    yield {"kernel": "all", "launches": sum(launches.values()), "µs": total / replays}
    for key, time in Counter(spent).most_common(TOP):
        yield {"kernel": key[:80], "launches": launches[key], "µs": time / replays, "%": 100 * time / total}
