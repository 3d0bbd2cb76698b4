"""Measurements and model, as lines for the terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fanfold.workflows.benchmark.scale.measure import WINDOWS
from fanfold.workflows.benchmark.scale.model import CostModel
from fanfold.workflows.benchmark.scale.projection import (
    BATCHES,
    EFFICIENCIES,
    GPUS,
    SHARES,
    Gpu,
    batch_for,
    project,
    setup_of,
)
from fanfold.workflows.benchmark.scale.simulation import Reduction
from fanfold.workflows.reporting.markdown import markdown_table

HEADS = "kind     workers  chunks  sleep        took   efficiency   scheduler   workers      MB   cores busy"
KINDS = {
    "weak": "A chunk a worker",
    "strong": "A fixed number of chunks",
    "short": "A chunk a worker, shorter vectors",
}
UNITS = {
    "iteration": "a meta-iteration",
    "scheduled": "a task",
    "turns": "a chunk, fold or step",
    "doublings": "a doubling of the workers",
    "messages": "a message",
}
POWERS = 21  # a curve of efficiency goes from one task a GPU to 2²⁰
COSTS = {"seconds": "time beyond the chunks", "scheduler": "CPU of the scheduler", "workers": "CPU of all workers"}
BASES = {"worst": "at worst", "best": "at best"}

HEAD = """# Limits of scaling

The scheduler, Dask's workers, the graph, the gang, the folds and the steps are real; a sleep replaces the computation
of a chunk, and then gives a gradient of {floats:,} floats. Scheduler, driver and every worker are processes of their
own, all on one machine of {cores} cores: where *cores busy*, the share of the cores that they use, nears 100 %, the
cores are the bound. The background work of Dask's processes is slowed down, as all share the cores. Each row has at
least {windows} windows of {window} meta-iterations and {seconds:g} s; time is their median, all else their mean.
Efficiency is the chunks' time over the workers' time. *MB moved* is all traffic over the loopback interface; *MB
counted* is the size of the sent vectors. Written by `fanfold benchmark --suite scale`.

"""

MODEL = """## Cost model

Seconds a meta-iteration = chunk + c + a · tasks + b · log₂ workers + m · messages + bytes / bandwidth, fitted to all
rows above by least squares of relative errors, with coefficients of at least zero. A gang's tasks are its chunks and
its ranks' steps, its messages those between the ranks; bytes are those counted. CPU is fitted in the same way, without
the idle CPU of the processes. Errors are relative to the measurements.

"""

PAPER = """## On paper

Nothing below was measured on a GPU. **Assumed**: a GPU takes {gpu_ms:g} ms for 32 tasks, and computes
{gpu_rate:,.0f} tasks/s when it has many: {launch:.3f} ms, and {task:.0f} µs a task. Every GPU gets one chunk.
Efficiency is the rate over the GPUs' number times the rate of one GPU that computes the same meta-batch without a
cluster.

- *{worst}*: the fitted time. All processes share {cores} cores, as in the measurement, and all bytes go through these.
  Not given for more than {most} workers, the largest measured number.
- *{best}*: every process has a core of its own. The time is the scheduler's CPU for all tasks, which no cluster
  reduces, and then the busiest worker's CPU; there is no other waiting, and the network is as fast as the loopback
  interface.

"""


def line(point: Mapping[str, Any]) -> str:
    """A measured point, as a line of the terminal's table."""
    found = point["measured"]
    return (
        f"{point['kind']:<7}  {point['workers']:7}  {point['chunks']:6}  {1000 * point['seconds']:5g}  "
        f"{1000 * found['seconds']:10.1f}  {100 * found['efficiency']:10.1f} %  {1000 * found['scheduler']:9.1f}  "
        f"{1000 * found['workers']:8.1f}  {found['loopback'] / 1e6:6.1f}  {100 * found['busy']:8.0f} %"
    )


def projections(reduction: Reduction, model: CostModel, gpu: Gpu, floats: int, window: int) -> dict[str, Any]:
    """Projected strong and weak scaling, and the least meta-batches of given efficiencies, on both bases."""
    bases = {"worst": model.worst, "best": model.best}
    wanted = [(gpus, batch) for gpus in GPUS for batch in BATCHES]
    shared = [(gpus, share * gpus) for gpus in GPUS for share in SHARES]

    def rows(cases: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        setups = [setup_of(reduction, gpus, batch, gpu, floats, window) for gpus, batch in cases]
        return [
            {
                "chunk_seconds": setup.seconds,
                **{name: asdict(project(cost, setup, gpu)) for name, cost in bases.items()},
            }
            for setup in setups
        ]

    pays = [
        {
            "gpus": gpus,
            **{
                name: {
                    str(share): batch_for(share, cost, reduction, gpus, gpu, floats, window) for share in EFFICIENCIES
                }
                for name, cost in bases.items()
            },
        }
        for gpus in GPUS
    ]
    curves = []
    for gpus in GPUS:
        batches = [gpus * 2**power for power in range(POWERS)]
        setups = [setup_of(reduction, gpus, batch, gpu, floats, window) for batch in batches]
        efficiencies = {
            name: [project(cost, setup, gpu).efficiency for setup in setups] for name, cost in bases.items()
        }
        curves.append({"gpus": gpus, "batches": batches, **efficiencies})
    return {"strong": rows(wanted), "weak": rows(shared), "pays": pays, "curves": curves}


def bends(points: Sequence[Mapping[str, Any]], efficiency: float) -> dict[float, int | None]:
    """By sleep, the largest number of workers that keeps an efficiency with a chunk a worker; None if none does."""
    found: dict[float, int | None] = {}
    for sleep in sorted({point["seconds"] for point in points if point["kind"] == "weak"}):
        found[sleep] = None
        for point in sorted(_of(points, "weak", sleep), key=lambda point: point["workers"]):
            if point["measured"]["efficiency"] < efficiency:
                break
            found[sleep] = point["workers"]
    return found


def markdown(result: Mapping[str, Any], images: Mapping[str, str]) -> str:
    """The report of a run, as the suite `scale` writes it in JSON.

    Args:
        result: The results.
        images: The pictures' file names.
    """
    machine = result["environment"]
    parts = [
        HEAD.format(
            cores=machine["cores"], windows=WINDOWS, **{name: result[name] for name in ("floats", "window", "seconds")}
        )
    ]
    parts.append(f"![Efficiency against workers]({images['efficiency']})\n\n")
    for reduction, found in result["reductions"].items():
        parts.append(f"## {reduction.capitalize()}\n\n" + _bends(found["points"]) + _stopped(found))
        parts += [_measured(kind, found["points"]) for kind in KINDS]
    modelled = {name: found for name, found in result["reductions"].items() if "model" in found}
    if modelled:
        parts.append(_models(modelled, images["cost"]))
        parts.append(_paper(result, modelled, images["paper"]))
    parts.append(
        f"Measured on {machine['cores']} × {machine['processor']}, Python {machine['python']}, PyTorch "
        f"{machine['torch']}, Dask {machine['dask']}, {machine['date']}; load average before: "
        f"{result['load_average_before']}.\n"
    )
    return "".join(parts)


def _of(points: Sequence[Mapping[str, Any]], kind: str, sleep: float | None = None) -> list[Mapping[str, Any]]:
    return [point for point in points if point["kind"] == kind and sleep in (None, point["seconds"])]


def _bends(points: Sequence[Mapping[str, Any]]) -> str:
    """The numbers of workers up to which efficiencies are kept, as text."""
    found = {efficiency: bends(points, efficiency) for efficiency in reversed(EFFICIENCIES)}
    text = "The largest measured number of workers that keeps an efficiency, with a chunk a worker:\n\n"
    rows = [
        [f"{1000 * sleep:g}", *(str(kept[sleep] or "none") for kept in found.values())]
        for sleep in next(iter(found.values()))
    ]
    return text + markdown_table(["sleep, ms", *(f"{100 * efficiency:.0f} %" for efficiency in found)], rows) + "\n"


def _stopped(found: Mapping[str, Any]) -> str:
    last = found["at_rest"][-1] if found["at_rest"] else None
    text = ""
    if last:
        text = (
            f"{last['workers']} {'worker' if last['workers'] == 1 else 'workers'} took "
            f"{last['bytes'] / 2**30:.2f} GiB in total: "
            f"{last['own_bytes'] / 2**20:.0f} MiB each, besides the memory shared with the process that forked them. "
            f"Without work, they take {100 * last['cpu']['workers']:.0f} % of a core, and the scheduler "
            f"{100 * last['cpu']['scheduler']:.1f} %.\n\n"
        )
    return text + (f"It stopped {found['stopped']}\n\n" if found["stopped"] else "")


def _measured(kind: str, points: Sequence[Mapping[str, Any]]) -> str:
    head = ["workers", "chunks", "sleep, ms", "ms an iteration", "iterations/s", "efficiency"]
    head += ["scheduler's CPU, ms", "workers' CPU, ms", "MB moved", "MB counted", "cores busy"]
    rows = []
    for point in sorted(_of(points, kind), key=lambda point: (point["seconds"], point["workers"])):
        found = point["measured"]
        rows.append(
            [
                f"{point['workers']}",
                f"{point['chunks']}",
                f"{1000 * point['seconds']:g}",
                f"{1000 * found['seconds']:.1f}",
                f"{1 / found['seconds']:.2f}",
                f"{100 * found['efficiency']:.3g} %",
                f"{1000 * found['scheduler']:.1f}",
                f"{1000 * found['workers']:.1f}",
                f"{found['loopback'] / 1e6:.1f}",
                f"{found['counted'] / 1e6:.1f}",
                f"{100 * found['busy']:.0f} %",
            ]
        )
    floats = " and ".join(f"{floats:,}" for floats in sorted({point["floats"] for point in _of(points, kind)}))
    return (
        f"{KINDS[kind]}, gradients of {floats} floats; by the meta-iteration:\n\n" + markdown_table(head, rows) + "\n"
    )


def _models(modelled: Mapping[str, Mapping[str, Any]], image: str) -> str:
    """The cost models."""
    rows = []
    for reduction, found in modelled.items():
        for cost, name in COSTS.items():
            fit = found["model"][cost]
            said = ", ".join(_coefficient(term, value) for term, value in fit["coefficients"].items())
            rows.append(
                [reduction, name, said, f"{fit['r2']:.3f}", f"{100 * fit['rms']:.0f} %", f"{100 * fit['worst']:.0f} %"]
            )
    head = ["reduction", "what", "coefficients", "R²", "error, root mean square", "largest error"]
    return MODEL + markdown_table(head, rows) + f"\n![The time of an iteration beyond its chunks]({image})\n\n"


def _coefficient(term: str, value: float) -> str:
    if term == "bytes":
        return f"{1e-6 / value:,.0f} MB/s" if value else "no time for bytes"
    return f"{1000 * value:.3g} ms {UNITS[term]}"


def _paper(result: Mapping[str, Any], modelled: Mapping[str, Mapping[str, Any]], image: str) -> str:
    gpu = Gpu(result["assumed"]["gpu_ms"] / 1000, result["assumed"]["gpu_rate"])
    most = max(point["workers"] for found in modelled.values() for point in found["points"])
    text = PAPER.format(
        **result["assumed"],
        **BASES,
        cores=result["environment"]["cores"],
        launch=1000 * gpu.launch,
        task=1e6 / gpu.rate,
        most=most,
    )
    head = ["GPUs", "tasks a meta-batch", "chunk, ms"]
    for reduction in modelled:
        head += [f"{reduction} {basis}: tasks/s, efficiency" for basis in BASES.values()]
    for kind, title in (("strong", "Strong scaling"), ("weak", "Weak scaling")):
        text += f"{title}:\n\n" + markdown_table(head, _projected(modelled, kind, most)) + "\n"
    head = ["GPUs"] + [
        f"{reduction} {basis}: {100 * share:.0f} %"
        for reduction in modelled
        for basis in BASES.values()
        for share in EFFICIENCIES
    ]
    text += "The smallest meta-batch, in tasks, that uses so many GPUs with an efficiency of 50 % and of 80 %:\n\n"
    text += markdown_table(head, _pays(modelled, most))
    return f"{text}\n![Efficiency against meta-batch, on paper]({image})\n\n"


def _projected(modelled: Mapping[str, Mapping[str, Any]], kind: str, most: int) -> list[list[str]]:
    rows = []
    for across in zip(*(found["paper"][kind] for found in modelled.values()), strict=True):
        first = across[0]
        gpus = first["best"]["gpus"]
        cells = [f"{gpus:,}", f"{first['best']['batch']:,}", f"{1000 * first['chunk_seconds']:.2f}"]
        for row in across:
            for basis in BASES:
                shown = row[basis]
                known = basis == "best" or gpus <= most
                cells.append(f"{shown['tasks_per_second']:,.0f}, {100 * shown['efficiency']:.2g} %" if known else "–")
        rows.append(cells)
    return rows


def _pays(modelled: Mapping[str, Mapping[str, Any]], most: int) -> list[list[str]]:
    rows = []
    for across in zip(*(found["paper"]["pays"] for found in modelled.values()), strict=True):
        gpus = across[0]["gpus"]
        cells = [f"{gpus:,}"]
        for row in across:
            for basis in BASES:
                for batch in row[basis].values():
                    known = basis == "best" or gpus <= most
                    cells.append("–" if not known else "none" if batch is None else f"{batch:,}")
        rows.append(cells)
    return rows
