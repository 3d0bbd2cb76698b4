"""What pruning saves: `python -m benchmarks.search_asha --config CONFIG …`, with the flags of `workflows.search`.

The same 24 settings, drawn at random from the same seed, once all trained in full and once under ASHA. The best
validation accuracy of the full search is the mark; what is measured is when each search had a finished trial as good,
and how long each took.

A mean over a few hundred tasks is noisy, and the best of many is the luckiest: so the settings that each search chose
are also compared by as many validation tasks as `CHECK` says.

Writes search_asha.json, and draws the best accuracy against time in search_asha.png.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from fanfold.pipeline.checkpoint import load_checkpoint
from fanfold.pipeline.evaluation import normalizations, predict
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.files import write_json
from fanfold.pipeline.results import summarize
from fanfold.pipeline.search.events import SearchEvent, TrialEnded
from fanfold.pipeline.search.study import best_trial, count
from fanfold.tasks.episodes import Stream
from fanfold.workflows.actions.search import open_request, request_of, search
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment

TRIALS, CHECK = 24, 4000
SIDES = {"full": "none", "ASHA": "asha"}
COLOURS = {"full": "#0072b2", "ASHA": "#d55e00"}  # told apart by colour-blind people too
OUT = Path("search_asha")


def main(argv: Sequence[str]) -> None:
    """See the module."""
    found = {name: measure(argv, pruner) for name, pruner in SIDES.items()}
    mark = found["full"]["best"]
    for name, side in found.items():
        side["reached"] = reached(side["curve"], mark)
        when = "never" if side["reached"] is None else f"after {side['reached']:.0f} s"
        print(
            f"{name}: best {100 * side['best']:.2f} % ({100 * side['checked']:.2f} % on {CHECK:,} tasks), "
            f"{100 * mark:.2f} % {when}, {side['seconds']:.0f} s in all, {side['pruned']} of {TRIALS} pruned"
        )
    print(f"ASHA took {found['ASHA']['seconds'] / found['full']['seconds']:.2f} of the full search's time")
    write_json(
        OUT.with_suffix(".json"),
        {"trials": TRIALS, "sides": found, "arguments": list(argv), "environment": environment()},
    )
    draw(found, mark).savefig(OUT.with_suffix(".png"), dpi=150)


def measure(argv: Sequence[str], pruner: str) -> dict[str, Any]:
    """A search's best accuracy over time: [seconds, best accuracy of a finished trial]."""
    curve: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        same = ["--run", folder, "--search.sampler", "random", "--search.pruner", pruner]
        request = request_of([*argv, *same, f"--search.trials={TRIALS}"])
        with open_cluster(request.base.cluster) as cluster, open_request(request) as study:
            began = time.monotonic()

            def tell(event: SearchEvent) -> None:
                if isinstance(event, TrialEnded):
                    print(f"{pruner}: trial {event.number} {event.state}", flush=True)
                    if event.state == "finished" and event.accuracy is not None:
                        best = max([event.accuracy, *(accuracy for _, accuracy in curve[-1:])])
                        curve.append((time.monotonic() - began, best))

            search(request, study, cluster, tell)
            seconds, best = time.monotonic() - began, best_trial(study)
            assert best is not None
            recipe = replace(request.plan(best.params).recipe, device=cluster.device)
            last = load_checkpoint(request.trial(best.number).last)
            how = normalizations(recipe)[0]
            executor = GraphExecutor(cluster, recipe)
            checked = summarize(predict(executor, recipe, last.best, Stream.VALIDATION, CHECK, how).accuracies)
            return {
                "seconds": seconds,
                "best": best.value,
                "checked": checked.mean,
                "params": best.params,
                "pruned": count(study).pruned,
                "curve": curve,
            }


def reached(curve: Sequence[tuple[float, float]], mark: float) -> float | None:
    """Seconds until a finished trial was at least as good as the mark; None if none was."""
    return next((seconds for seconds, best in curve if best >= mark), None)


def draw(found: dict[str, dict[str, Any]], mark: float) -> Figure:
    """The best accuracy so far against seconds."""
    figure, axis = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, side in found.items():
        seconds = [*(seconds for seconds, _ in side["curve"]), side["seconds"]]
        best = [*(100 * best for _, best in side["curve"]), 100 * side["best"]]
        axis.step(seconds, best, where="post", color=COLOURS[name], label=f"{name}, {side['seconds']:.0f} s")
        axis.plot(seconds[-1], best[-1], "o", color=COLOURS[name])
    axis.axhline(100 * mark, color="0.4", linewidth=0.8, linestyle="--")
    axis.set_xlabel("seconds of searching")
    axis.set_ylabel("best validation accuracy of a finished trial, %")
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    run(main)
