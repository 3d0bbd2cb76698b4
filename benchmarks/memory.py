"""What memory a meta-gradient takes as inner steps grow: `python -m benchmarks.memory`.

The two exact ways through the inner steps, `reverse` and `mixed` (see `tasks.algorithms.support_loss`), for the same
task: the most that the allocator had given out at a time, over what it had given out before, less the adapted
parameters themselves, which both ways keep; and the time that each takes, in one run, alternating, as medians.

Writes OUT.json and draws OUT.png.
"""

import ctypes
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.gpu.problem import SIZE, tasks_of
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.preload import WORKER_ENVIRONMENT
from fanfold.pipeline.files import write_json
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import MODELS, build_network
from fanfold.tasks.network import as_network
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment

Way = Literal["reverse", "mixed"]
WAYS: tuple[Way, Way] = ("reverse", "mixed")
COLOURS = {"reverse": "#d55e00", "mixed": "#0072b2"}


class _Mallinfo2(ctypes.Structure):
    """What glibc's mallinfo2 tells, see its manual page: bytes, all of them."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    ]


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.memory", __doc__ or "", argv, [])
    parser.add_argument("--model", default="conv4", help=f"the network: {', '.join(MODELS)}")
    parser.add_argument("--shots", type=int, default=1, help="support drawings of each of 5 classes")
    parser.add_argument("--queries", type=int, default=15, help="query drawings of each")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 5, 10, 20], help="inner steps")
    parser.add_argument("--rounds", type=int, default=5, help="each is measured so often")
    parser.add_argument("--out", type=Path, default=Path("memory"), help="OUT.json and OUT.png")
    options = parse(parser, argv)
    task = tasks_of(EpisodeShape(5, options.shots, options.queries), 1, torch.device("cpu"))
    bytes_of: dict[Way, list[int]] = {way: [] for way in WAYS}
    seconds_of: dict[Way, list[float]] = {way: [] for way in WAYS}
    print("steps   reverse    mixed   (MB)   reverse    mixed   (ms)   mixed / reverse: memory, time")
    for steps in options.steps:
        computations = {way: meta_gradient(options.model, task, steps, way) for way in WAYS}
        peaks, seconds = measure(computations, options.rounds)
        for way in WAYS:
            bytes_of[way].append(peaks[way])
            seconds_of[way].append(seconds[way])
        memory, times = [peaks[way] / 1e6 for way in WAYS], [1000 * seconds[way] for way in WAYS]
        print(
            f"{steps:5}  {memory[0]:8.1f} {memory[1]:8.1f}        {times[0]:8.1f} {times[1]:8.1f}         "
            f"{memory[1] / memory[0]:.2f}, {times[1] / times[0]:.2f}",
            flush=True,
        )
    for way in WAYS:
        print(f"{way}: {bytes_of[way][-1] / bytes_of[way][0]:.2f} × the memory of {options.steps[0]} steps")
    result = {
        "model": options.model,
        "shots": options.shots,
        "queries": options.queries,
        "steps": options.steps,
        "bytes": bytes_of,
        "seconds": seconds_of,
        "environment": environment(),
    }
    write_json(options.out.with_suffix(".json"), result)
    draw(options.steps, bytes_of).savefig(options.out.with_suffix(".png"), dpi=150)


def meta_gradient(model: str, task: TaskBatch, steps: int, way: Way) -> Callable[[], int]:
    """A function that computes MAML's meta-gradient, and gives the bytes of the adapted parameters."""
    if model not in MODELS:
        raise FanfoldError(f"No model '{model}': there are {', '.join(MODELS)}.")
    network = as_network(build_network(MODELS[model](), 5, SIZE, 0), SIZE, 5)
    algorithm = Maml(inner_lr=0.1, inner_steps=steps, differentiation=way)
    parameters = algorithm.initialize(network)

    def compute() -> int:
        algorithm.meta_gradient(network, parameters, 0, task)
        return steps * parameters.nbytes

    return compute


def measure(computations: dict[Way, Callable[[], int]], rounds: int) -> tuple[dict[Way, int], dict[Way, float]]:
    """The most bytes of each, less those it gives itself, and its median seconds."""
    peaks: dict[Way, int] = dict.fromkeys(WAYS, 0)
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for compute in computations.values():
        compute()
    for _ in range(rounds):
        for way, compute in computations.items():
            began = time.perf_counter()
            compute()
            seconds[way].append(time.perf_counter() - began)
            with most_in_use() as most:
                own = compute()
            peaks[way] = max(peaks[way], most[0] - own)
    return peaks, {way: statistics.median(of_way) for way, of_way in seconds.items()}


@contextmanager
def most_in_use() -> Iterator[list[int]]:
    """The most bytes that the allocator had given out inside, over what it had before: one number, at the end."""
    before, found, over = in_use(), [0], threading.Event()

    def watch() -> None:
        while not over.is_set():
            found[0] = max(found[0], in_use() - before)

    watching = threading.Thread(target=watch)
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # between any two calls into PyTorch or Numba, more or less
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()
        sys.setswitchinterval(switching)


def in_use() -> int:
    """Bytes that glibc's allocator has given out, in its arena and beside it."""
    info: _Mallinfo2 = _mallinfo2()()
    return int(info.uordblks + info.hblkhd)


def _mallinfo2() -> Callable[[], _Mallinfo2]:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError) as error:
        raise FanfoldError("Memory is counted by glibc's allocator (2.33 or later), which isn't there.") from error
    function.restype = _Mallinfo2
    found: Callable[[], _Mallinfo2] = function
    return found


def draw(steps: Sequence[int], bytes_of: dict[Way, list[int]]) -> Figure:
    """Memory against inner steps."""
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for way, most in bytes_of.items():
        axis.plot(steps, [value / 1e6 for value in most], marker="o", color=COLOURS[way], label=way)
    axis.set_xlabel("inner steps")
    axis.set_ylabel("most memory at a time, MB")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    if os.environ.get("MALLOC_ARENA_MAX") != "1":  # the allocator reads it once: one arena, whose bytes it tells
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **WORKER_ENVIRONMENT})
    torch.set_num_threads(1)
    run(main)
