"""Measure the limits of scaling: the real scheduler and pipeline with 1 to 64 simulated workers, whose chunks sleep.

Workers are real Dask workers, a process each; a chunk sleeps and gives a gradient. For either reduction, time,
efficiency, CPU of scheduler and workers, and moved bytes of a meta-iteration are measured: with as many chunks as
workers (weak scaling), with a fixed number (strong scaling), and with short vectors. A fitted cost model then projects
8, 64 and 1,000 GPUs. Writes OUT.json, OUT.md and pictures OUT-….png.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.workflows.benchmark.cluster import check_folder
from fanfold.workflows.benchmark.peers.suite import BUSY
from fanfold.workflows.benchmark.scale.costs import Setup
from fanfold.workflows.benchmark.scale.measure import measure
from fanfold.workflows.benchmark.scale.model import fit_model
from fanfold.workflows.benchmark.scale.pictures import pictures
from fanfold.workflows.benchmark.scale.projection import Gpu
from fanfold.workflows.benchmark.scale.report import HEADS, line, markdown, projections
from fanfold.workflows.benchmark.scale.simulation import Reduction, Simulation, open_simulation
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.result import environment

WORKERS = (1, 2, 4, 8, 16, 32, 64)
SLEEPS = (2.0, 20.0, 200.0)  # ms
WINDOW = 10  # meta-iterations a window
SHORT = 8  # how many times shorter the short vectors are
PATIENCE = 60.0  # seconds without a heartbeat; many processes on few cores may be late
RESTING = 2.0  # seconds
GIB = 2**30


@dataclass(frozen=True)
class ScaleConfig:
    """The settings of the suite, and assumptions about a GPU.

    Args:
        suite: The suite's name.
        seconds: Least seconds of each measurement, which has at least two windows of ten meta-iterations.
        chunks: Chunks of a meta-batch, for strong scaling.
        floats: The number of parameters; by default that of the pooled network for 5 ways.
        memory: GiB that all simulated workers may take.
        gpu_ms: Milliseconds of a GPU for 32 tasks: an assumption, not a measurement.
        gpu_rate: Tasks a second of a GPU with many tasks: an assumption, not a measurement.
        out: The files of the result, OUT.json, OUT.md and OUT-….png; by default none.
    """

    suite: Literal["scale"] = "scale"
    seconds: float = 4
    chunks: int = 32
    floats: int = 111_936
    memory: float = 12
    gpu_ms: float = 0.4
    gpu_rate: float = 100_000
    out: str | None = None


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    reductions = list(get_args(Reduction))
    parser = build_parser("workflows.benchmark", __doc__ or "", argv, [])
    parser.add_argument("--reductions", nargs="+", default=reductions, help=f"which of {', '.join(reductions)}")
    parser.add_argument("--workers", nargs="+", type=int, default=list(WORKERS), help="how many simulated workers")
    parser.add_argument("--sleeps", nargs="+", type=float, default=list(SLEEPS), help="milliseconds of a chunk")
    parser.add_class_arguments(ScaleConfig)
    options = parse(parser, argv)
    check_options(options, reductions)
    load = psutil.getloadavg()[0]
    if load > BUSY:
        print(f"the machine is busy (load average {load:.1f}), which slows the measurements", flush=True)
    result: dict[str, Any] = {
        "suite": options.suite,
        "seconds": options.seconds,
        "chunks": options.chunks,
        "floats": options.floats,
        "window": WINDOW,
        "assumed": {"gpu_ms": options.gpu_ms, "gpu_rate": options.gpu_rate},
        "load_average_before": round(load, 2),
        "reductions": {},
        "environment": environment(),
    }
    gpu = Gpu(options.gpu_ms / 1000, options.gpu_rate)
    for reduction in options.reductions:
        print(f"\n{reduction}: ms and MB a meta-iteration\n{HEADS}", flush=True)
        found = measure_reduction(reduction, options)
        if len(found["points"]) > 1:
            found |= modelled(reduction, found, gpu, options.floats)
        result["reductions"][reduction] = found
        if options.out:  # after each reduction: an interrupted run keeps what it measured
            write(Path(options.out), result)
    if options.out:
        print(f"\nwritten: {options.out}.json, {options.out}.md, {options.out}-….png")


def check_options(options: Any, reductions: Sequence[str]) -> None:
    """Raise FanfoldError for wrong options, before anything starts."""
    if unknown := [name for name in options.reductions if name not in reductions]:
        raise FanfoldError(f"--reductions can't be {', '.join(unknown)}: there are {', '.join(reductions)}.")
    if min(options.workers) < 1 or min(options.sleeps) < 0:
        raise FanfoldError("--workers must be at least 1, and --sleeps at least 0.")
    for name in ("seconds", "chunks", "floats", "memory", "gpu_ms", "gpu_rate"):
        if not getattr(options, name) > 0:
            raise FanfoldError(f"--{name} must be above 0, not {getattr(options, name):g}.")
    check_folder(options.out)


def setups(
    reduction: Reduction, workers: int, sleeps: Sequence[float], chunks: int, floats: int
) -> list[tuple[str, Setup]]:
    """The setups for some workers, each with its kind.

    Weak scaling at every sleep; strong scaling and short vectors at a middle one. Short vectors separate the cost of
    bytes from that of tasks, which otherwise grow together.
    """
    middle, short = sorted(sleeps)[(len(sleeps) - 1) // 2] / 1000, max(1, floats // SHORT)
    return [
        *(("weak", Setup(reduction, workers, workers, sleep / 1000, floats, WINDOW)) for sleep in sleeps),
        ("strong", Setup(reduction, workers, chunks, middle, floats, WINDOW)),
        ("short", Setup(reduction, workers, workers, middle, short, WINDOW)),
    ]


def measure_reduction(reduction: Reduction, options: Any) -> dict[str, Any]:
    """Measure and print the points of a reduction, up to the number of workers that memory allows.

    Returns:
        `points`; for each number of workers the idle use `at_rest`: memory, and `cpu` in a second; why it `stopped`
        early, or None.
    """
    found: dict[str, Any] = {"points": [], "at_rest": [], "stopped": None}
    with open_simulation(reduction, PATIENCE) as simulation:
        for workers in sorted(set(options.workers)):
            try:
                check_memory(simulation, workers, options.memory * GIB)
                simulation.grow(workers)
                size: dict[str, Any] = {"workers": workers, **taken(simulation)}
                size["cpu"] = asdict(simulation.at_rest(min(RESTING, options.seconds)))
                found["at_rest"].append(size)
                for kind, setup in setups(reduction, workers, options.sleeps, options.chunks, options.floats):
                    measured = measure(simulation, setup, options.seconds)
                    found["points"].append({"kind": kind, **asdict(setup), "measured": asdict(measured)})
                    print(line(found["points"][-1]), flush=True)
                size |= taken(simulation)
            except RunError as error:
                found["stopped"] = f"at {workers} workers: {error}"
                print(f"{reduction} stopped {found['stopped']}", flush=True)
                break
    return found


def taken(simulation: Simulation) -> dict[str, float]:
    """The memory of all workers, and of each alone."""
    total, own = simulation.memory()
    return {"bytes": total, "own_bytes": own}


def check_memory(simulation: Simulation, workers: int, most: float) -> None:
    """Raise RunError if the workers would take more memory than allowed, or than the machine has."""
    total, own = simulation.memory()
    more = own * (workers - simulation.cluster.workers)
    left = psutil.virtual_memory().available
    if total + more > most or more > left / 2:
        raise RunError(
            f"they would take about {(total + more) / GIB:.2f} GiB; {most / GIB:g} GiB are allowed, and "
            f"{left / GIB:.1f} GiB free."
        )


def modelled(reduction: Reduction, found: Mapping[str, Any], gpu: Gpu, floats: int) -> dict[str, Any]:
    """The model fitted to the points of a reduction, and its projections."""
    points = found["points"]
    setups = [Setup(**{name: point[name] for name in Setup.__dataclass_fields__}) for point in points]
    idle = {rest["workers"]: rest["cpu"] for rest in found["at_rest"]}
    model = fit_model(reduction, setups, [beyond_rest(point["measured"], idle[point["workers"]]) for point in points])
    predicted = [model.fitted(setup) for setup in setups]
    return {"model": asdict(model), "predicted": predicted, "paper": projections(reduction, model, gpu, floats, WINDOW)}


def beyond_rest(measured: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, float]:
    """A meta-iteration's seconds, and its CPU seconds beyond those of idle processes."""
    seconds = measured["seconds"]
    used = {name: max(0.0, measured[name] - rest[name] * seconds) for name in ("scheduler", "workers")}
    return {"seconds": seconds, **used}


def write(out: Path, result: dict[str, Any]) -> None:
    """Write the result as JSON, as Markdown and as pictures."""
    named = {name: out.with_name(f"{out.name}-{name}.png") for name in ("efficiency", "cost", "paper")}
    write_json(out.with_name(f"{out.name}.json"), result)
    write_bytes(
        out.with_name(f"{out.name}.md"), markdown(result, {name: path.name for name, path in named.items()}).encode()
    )
    for name, figure in pictures(result).items():
        figure.savefig(named[name], dpi=150)
