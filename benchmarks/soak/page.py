"""What a soak found, as JSON, a page and a picture."""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.soak.sampling import LEAST, WARM, Sample, Slope, by_process, slope, warm
from fanfold.pipeline.files import write_bytes, write_json

COLOURS = {"driver": "#d55e00", "scheduler": "#009e73", "worker": "#0072b2"}
MINUTE = 60.0


def write(out: Path, result: Mapping[str, Any], samples: Mapping[str, Sequence[Sample]], turns: Sequence[int]) -> None:
    """Write OUT.json, OUT.md and OUT.png.

    Args:
        out: OUT.
        result: The facts of the run.
        samples: Those of the `undisturbed` run and of the `disturbed` one.
        turns: The iterations at which the undisturbed run changed between gang and graph.
    """
    quiet, noisy = samples.get("undisturbed", ()), samples.get("disturbed", ())
    parts = {
        f"undisturbed, by {name}": slopes(quiet, partial(_during, turns, place))
        for place, name in enumerate(("gang", "graph"))
    }
    parts["disturbed"] = slopes(noisy)
    write_json(out.with_suffix(".json"), {**result, "slopes": parts})
    write_bytes(out.with_suffix(".md"), page(result, parts).encode())
    picture(quiet, noisy, out.with_suffix(".png"))


def _during(turns: Sequence[int], place: int, sample: Sample) -> bool:
    """Whether a sample is of a stretch by gang (0) or by graph (1)."""
    return bisect(turns, sample.iteration) % 2 == place


def slopes(samples: Sequence[Sample], wanted: Callable[[Sample], bool] = lambda _: True) -> list[dict[str, Any]]:
    """The slopes of every process that lived long enough: memory in KiB a minute and an iteration, and the others."""
    found = []
    for part in warm(samples, wanted):
        minutes, iterations = [one.seconds / MINUTE for one in part], [one.iteration for one in part]
        memory = [one.memory / 1024 for one in part]
        found.append(
            {
                "role": part[0].role,
                "process": part[0].process[0],
                "minutes": minutes[-1] - minutes[0],
                "iterations": iterations[-1] - iterations[0],
                "memory_mib": memory[-1] / 1024,
                "kib_a_minute": asdict(slope(minutes, memory)),
                "kib_an_iteration": asdict(slope(iterations, memory)),
                "files": [min(one.files for one in part), max(one.files for one in part)],
                "files_a_minute": asdict(slope(minutes, [one.files for one in part])),
                "threads": [min(one.threads for one in part), max(one.threads for one in part)],
                "threads_a_minute": asdict(slope(minutes, [one.threads for one in part])),
            }
        )
    return found


def page(result: Mapping[str, Any], parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page."""
    machine, wrong = result["environment"], result["wrong"]
    undisturbed, disturbed = (result["seconds"].get(part, 0.0) for part in ("undisturbed", "disturbed"))
    same = len(set(result["parameters_sha256"])) == 1 and len(result["parameters_sha256"]) == 2
    lines = [
        "# Soak",
        "",
        f"{sum(result['faults'].values())} random faults (seed {result['seed']}) over one run of "
        f"{result['iterations']:,} meta-iterations on glyphs, by {len(result['drivers'])} drivers over a scheduler and "
        f"two workers, in {disturbed / 60:.0f} minutes; {undisturbed / 60:.0f} minutes undisturbed, "
        f"{result['undisturbed']:,} iterations. "
        + (
            f"The parameters at the end are the undisturbed run's, bit for bit: `{result['parameters_sha256'][0]}`."
            if same
            else f"The parameters at the end differ: {result['parameters_sha256']}."
        ),
        "",
        "What did not hold: " + ("; ".join(wrong) + "." if wrong else "nothing."),
        "",
        f"`{result['command']}`, {result['date']}. Versions and processor: "
        + ", ".join(f"{name} {value}" for name, value in machine.items() if value)
        + ".",
        "",
        "| fault | times |",
        "| --- | ---: |",
        *(f"| {kind} | {count} |" for kind, count in sorted(result["faults"].items(), key=lambda one: -one[1])),
        "",
        "How drivers ended:",
        "",
        "| status | times | the last line, of one of them |",
        "| ---: | ---: | --- |",
    ]
    for status in sorted({end["status"] for end in result["drivers"]}):
        ends = [end for end in result["drivers"] if end["status"] == status]
        said = next((end["said"] for end in ends if end["said"]), "").replace("|", "\\|")
        lines.append(f"| {status} | {len(ends)} | {said} |")
    lines += [
        "",
        f"Growth of each process that lived at least {(WARM + LEAST) / 60:g} minutes after its imports, without the "
        f"first {WARM / 60:g}: Dask's histories fill then. 95 % confidence intervals, over means of ten successive "
        "parts.",
        "",
        "| part | process | minutes | iterations | MiB | KiB a minute | KiB an iteration | files | threads |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rows in parts.items():
        lines += [
            f"| {name} | {row['role']} | {row['minutes']:.1f} | {row['iterations']:,} | {row['memory_mib']:.0f} | "
            f"{_interval(row['kib_a_minute'])} | {_interval(row['kib_an_iteration'], 2)} | {_span(row['files'])} | "
            f"{_span(row['threads'])} |"
            for row in sorted(rows, key=lambda row: (row["role"], -row["minutes"]))
        ]
    return "\n".join([*lines, "", "![Memory, files and threads](soak.png)", ""])


def _interval(found: Mapping[str, float], digits: int = 0) -> str:
    one = Slope(**found)
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def _span(ends: Sequence[int]) -> str:
    return f"{ends[0]}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def picture(quiet: Sequence[Sample], noisy: Sequence[Sample], path: Path) -> None:
    """Memory, file descriptors and threads over time, a line a process."""
    figure, axes = pyplot.subplots(3, 2, figsize=(11, 8), sharey="row", sharex="col", layout="constrained")
    for column, (title, samples) in enumerate((("undisturbed", quiet), ("with faults", noisy))):
        seen = set[str]()
        began = min((one.seconds for one in samples), default=0.0)
        for part in by_process(samples):
            role = part[0].role
            times = [(one.seconds - began) / MINUTE for one in part]
            label = None if role in seen else role
            seen.add(role)
            for row, values in enumerate(
                ([one.memory / 2**20 for one in part], [one.files for one in part], [one.threads for one in part])
            ):
                axes[row][column].plot(times, values, color=COLOURS[role], linewidth=1, label=label)
        axes[0][column].set_title(title)
        axes[2][column].set_xlabel("minutes")
    for row, name in enumerate(("resident memory, MiB", "open files", "threads")):
        axes[row][0].set_ylabel(name)
        axes[row][0].set_ylim(bottom=0)
    axes[0][0].legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
