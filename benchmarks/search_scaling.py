"""How much faster a search is on two workers: `python -m benchmarks.search_scaling --config CONFIG …`.

Takes the flags of `workflows.search`. The same trials, drawn at random and never pruned, so that there is the same to
do, on one worker and on two, in turns, `ROUNDS` times in one run. The clock runs from when the cluster is up and its
workers have opened the store to when the last trial has ended. Both must come to the same parameters.

What the machine itself gains from a second process, which shares its memory and its host, stands beside: the summed
rate of bare loops over chunks, two at once to one alone.

Writes the rounds to search_scaling.json.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fanfold.data.errors import RunError
from fanfold.pipeline import worker
from fanfold.pipeline.files import write_json
from fanfold.pipeline.recipe import Recipe
from fanfold.workflows.actions.search import open_request, request_of, search
from fanfold.workflows.benchmark.cluster import bare_loops, measure_bare
from fanfold.workflows.cli.cluster import open_cluster
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment

TRIALS, WORKERS, ROUNDS = 8, (1, 2), 3
BARE = 10.0  # seconds that bare loops are measured for
OUT = Path("search_scaling.json")


def main(argv: Sequence[str]) -> None:
    """See the module."""
    rounds, ceilings, recipe = [], [], request_of([*argv, "--run", "unused"]).base.recipe
    for _ in range(ROUNDS):
        measured = {workers: measure(argv, workers) for workers in WORKERS}
        if len({tuple(found) for _, found in measured.values()}) > 1:
            raise RunError("One worker and two came to other parameters.")
        rounds.append([seconds for seconds, _ in measured.values()])
        ceilings.append(bare_rate(recipe, WORKERS[1]) / bare_rate(recipe, WORKERS[0]))
        took = " · ".join(f"{workers} workers: {seconds:.1f} s" for workers, (seconds, _) in measured.items())
        print(f"{took} · two bare loops to one: {ceilings[-1]:.2f}", flush=True)
    ratios = [one / two for one, two in rounds]
    ratio, ceiling = statistics.median(ratios), statistics.median(ceilings)
    print(
        f"two workers are {ratio:.3f} × as fast as one, bare loops {ceiling:.3f} × ({TRIALS} trials, {ROUNDS} rounds)"
    )
    keys = {"trials": TRIALS, "workers": WORKERS, "seconds": rounds, "ratio": ratio, "bare_ratio": ceiling}
    write_json(OUT, {**keys, "arguments": list(argv), "environment": environment()})


def bare_rate(recipe: Recipe, processes: int) -> float:
    """The summed tasks a second of some processes that compute chunks in a bare loop."""
    with bare_loops(recipe, processes) as loops:
        measure_bare(loops, BARE / 2)  # opens the store, and fills caches
        return measure_bare(loops, BARE)


def measure(argv: Sequence[str], workers: int) -> tuple[float, list[str]]:
    """Seconds that a search takes on some workers, and the SHA-256 of each trial's parameters."""
    with tempfile.TemporaryDirectory() as folder:
        same = ["--run", folder, "--search.sampler", "random", "--search.pruner", "none"]
        request = request_of([*argv, *same, f"--search.trials={TRIALS}"])
        with (
            open_cluster(replace(request.base.cluster, workers=workers)) as cluster,
            open_request(request) as study,
        ):
            cluster.client.run(worker.initialize, request.base.recipe)
            began = time.monotonic()
            search(request, study, cluster)
            seconds = time.monotonic() - began
            return seconds, [trial.user_attrs["parameters_sha256"] for trial in study.get_trials()]


if __name__ == "__main__":
    run(main)
