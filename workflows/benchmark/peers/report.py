"""The measurements, as lines for the terminal and as Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fanfold.workflows.reporting.markdown import markdown_table

Rates = Mapping[str, float]
"""Tasks a second, by side."""

HEAD = """# MAML's exact meta-gradient: Fanfold beside its peers

Tasks a second. All sides get the same network, tasks and initialization, and give the same gradient; they alternate in
one run: medians of {rounds} rounds of {seconds:g} s a side. *×* is the median of the rounds' ratios to the fastest
peer, the one in bold. Fanfold runs as `train` does, over a local cluster of workers of {threads}: drawing tasks, the
outer step, checkpoints and metrics are in its rate. Peers have all cores and the allocator's default settings, and only
compute the gradient of tasks in memory, {chunk} at a time. Written by
`fanfold benchmark --suite peers`.

"""


def summarize(rounds: Sequence[Rates], peers: Sequence[str]) -> dict[str, Any]:
    """Medians, the fastest peer, and the medians of the rounds' ratios to it.

    Args:
        rounds: Each round's rates.
        peers: The sides that are peers.
    """
    medians = {side: statistics.median(rates[side] for rates in rounds) for side in rounds[0]}
    fastest = max(peers, key=medians.__getitem__)
    ratios = {side: statistics.median(rates[side] / rates[fastest] for rates in rounds) for side in medians}
    return {"tasks_per_second": medians, "fastest_peer": fastest, "ratios": ratios, "rounds": list(rounds)}


def columns(label: str, sides: Sequence[str], cells: Sequence[str] | None = None, note: str = "") -> str:
    """A line of the terminal's table with a column for each side; the head without cells."""
    shown = "".join(f"   {cell:>{max(8, len(side))}}" for side, cell in zip(sides, cells or sides, strict=True))
    return f"{label:<7}{shown}   {note}".rstrip()


def markdown(result: Mapping[str, Any]) -> str:
    """The report of a run, as the suite `peers` writes it in JSON."""
    peers, settings = result["peers"], result["settings"]
    threads = result["meta"]["threads"]
    fanfold = [f"fanfold {workers}" for workers in result["workers"]]
    head = ["setting", *peers]
    for workers in result["workers"]:
        head += [f"Fanfold, {workers} {'worker' if workers == 1 else 'workers'}", "×"]
    table = [
        [
            f"({name}) {found['setting']}",
            *(_rate(found, peer) for peer in peers),
            *(cell for side in fanfold for cell in (_rate(found, side), f"{found['ratios'][side]:.2f}")),
        ]
        for name, found in settings.items()
    ]
    sides = ["fanfold", *peers]
    gradients = [
        [f"({name})", *(f"{found['differences'][kind][side]:.0e}" for kind in ("float64", "float32") for side in sides)]
        for name, found in settings.items()
    ]
    kinds = [f"{side}, {kind}" for kind in ("float64", "float32") for side in sides]
    return "\n".join(
        [
            HEAD.format(
                rounds=result["rounds"],
                seconds=result["seconds"],
                threads="one thread each" if threads == 1 else f"{threads} threads each",
                chunk=result["meta"]["chunk"],
            )
            + markdown_table(head, table),
            "The gradients' relative differences from the loop's in float64:\n",
            markdown_table(["setting", *kinds], gradients),
            _notes(result),
        ]
    )


def _rate(found: Mapping[str, Any], side: str) -> str:
    rate = f"{found['tasks_per_second'][side]:.1f}"
    return f"**{rate}**" if side == found["fastest_peer"] else rate


def _notes(result: Mapping[str, Any]) -> str:
    machine = result["environment"]
    versions = [f"{name} {peer['version']} (threads: {peer['threads']})" for name, peer in result["peers"].items()]
    lines = [
        f"Measured on {machine['cores']} × {machine['processor']}, Python {machine['python']}, PyTorch "
        f"{machine['torch']}, Dask {machine['dask']}, {machine['date']}, on tasks of {result['dataset']['name']}, "
        f"{result['meta']['batch']} a meta-batch; load average before: {result['load_average_before']}.",
        f"Peers: {', '.join(versions)}; loop is plain autograd, its version PyTorch's.",
        *(f"Absent: {name} ({reason})." for name, reason in result["absent"].items()),
        "learn2learn is not among them: it can't be installed on Python 3.11 or later.",
    ]
    return "\n\n".join(lines) + "\n"
