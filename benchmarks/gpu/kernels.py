"""Which kernels a meta-gradient's time goes to, and how many it launches.

Leaves the tables as text beside the report, and the trace of one of them, for Chrome or Perfetto.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.options import Options, Row, attempt
from benchmarks.gpu.settings import settings, tasks_of
from benchmarks.gpu.sides import kernel_sets, meta_gradient_of, network_of
from benchmarks.gpu.timing import Replayed
from fanfold.tasks.derivatives.protocol import Operations

REPLAYS, TOP, WORDS = 10, 25, 100
TRACED = ("a", 32)


def measure(options: Options) -> Iterator[Row]:
    """A row for each setting and number of tasks: launches, the device's time, and the kernels that take most of it."""
    own, kernels = list(kernel_sets(options.place).items())[-1]
    path = options.beside("kernels.txt")
    path.unlink(missing_ok=True)
    for name, tasks in (("a", 2),) if options.quick else (TRACED, ("a", 512), ("b", 32), ("c", 32), ("d", 32)):
        what = {"setting": name, "tasks": tasks, "side": f"fanfold {own}, captured"}
        yield attempt(options, what, _profiled, name, tasks, kernels)


def _profiled(name: str, tasks: int, operations: Operations, options: Options) -> Row:
    setting = settings(options)[name]
    network = network_of(setting.model, setting.shape.ways, options.place, operations, torch.float32)
    parameters, batch = setting.algorithm.initialize(network), tasks_of(setting.shape, tasks, options.place)
    replayed = Replayed(meta_gradient_of(setting.algorithm, network, batch))
    for _ in range(3):
        replayed(parameters, batch.support, batch.query)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.on_cuda else [])]
    with profile(activities=activities, acc_events=True) as found:
        for _ in range(REPLAYS):
            replayed(parameters, batch.support, batch.query)
        if options.on_cuda:
            torch.cuda.synchronize()
    if (name, tasks) == TRACED or options.quick:
        found.export_chrome_trace(str(options.beside("trace.json.gz")))
    seconds, launches = _by_name(found, options)
    lines = [f"{name}: {setting}, {tasks} tasks, a meta-gradient of {REPLAYS} replayed", ""]
    lines += [f"{'µs':>9} {'share':>6} {'launches':>8}  kernel"]
    total = sum(seconds.values())
    for kernel, spent in seconds.most_common(TOP):
        each = launches[kernel] / REPLAYS
        lines.append(f"{1e6 * spent / REPLAYS:9.2f} {spent / total:6.1%} {each:8.1f}  {kernel[:WORDS]}")
    with options.beside("kernels.txt").open("a") as file:
        file.write("\n".join([*lines, "", ""]))
    most = ", ".join(f"{kernel[:40]} {spent / total:.0%}" for kernel, spent in seconds.most_common(3))
    return {
        "launches": sum(launches.values()) / REPLAYS,
        "ms in kernels": 1000 * total / REPLAYS,
        "most of it in": most,
    }


def _by_name(found: profile, options: Options) -> tuple[Counter[str], Counter[str]]:
    """Seconds and numbers of kernels by name; on a CPU, of operations."""
    seconds: Counter[str] = Counter()
    launches: Counter[str] = Counter()
    for event in found.events() or []:
        if options.on_cuda == _is_kernel(event):
            spent = event.self_device_time_total if options.on_cuda else event.self_cpu_time_total
            seconds[event.name] += spent / 1e6
            launches[event.name] += 1
    return seconds, launches


def _is_kernel(event: Any) -> bool:
    return bool(event.device_type.name == "CUDA")
