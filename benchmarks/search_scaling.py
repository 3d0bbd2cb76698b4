"""How much faster a search is on two workers: `python -m benchmarks.search_scaling --config CONFIG …`.

Takes the flags of `workflows.search`. The same trials, drawn at random and never pruned, so that there is the same to
do, on one worker and on two, in turns, `ROUNDS` times in one run. The clock runs from when the cluster is up and its
workers have opened the store to when the last trial has ended. Both must come to the same parameters.

Writes the rounds to search_scaling.json.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data.errors import RunError
from pipeline import work
from pipeline.cluster import open_cluster
from pipeline.files import write_json
from workflows.entry import run
from workflows.result import environment
from workflows.search import open_request, request_of, search

TRIALS, WORKERS, ROUNDS = 8, (1, 2), 3
OUT = Path("search_scaling.json")


def main(argv: Sequence[str]) -> None:
    """See the module."""
    rounds = []
    for _ in range(ROUNDS):
        measured = {workers: measure(argv, workers) for workers in WORKERS}
        if len({tuple(found) for _, found in measured.values()}) > 1:
            raise RunError("One worker and two came to other parameters.")
        rounds.append([seconds for seconds, _ in measured.values()])
        print(
            " · ".join(f"{workers} workers: {seconds:.1f} s" for workers, (seconds, _) in measured.items()), flush=True
        )
    ratios = [one / two for one, two in rounds]
    print(f"two workers are {statistics.median(ratios):.3f} × as fast as one ({TRIALS} trials, {ROUNDS} rounds)")
    keys = {"trials": TRIALS, "workers": WORKERS, "seconds": rounds, "ratio": statistics.median(ratios)}
    write_json(OUT, {**keys, "arguments": list(argv), "environment": environment()})


def measure(argv: Sequence[str], workers: int) -> tuple[float, list[str]]:
    """Seconds that a search takes on some workers, and the SHA-256 of each trial's parameters."""
    with tempfile.TemporaryDirectory() as folder:
        same = ["--run", folder, "--search.sampler", "random", "--search.pruner", "none"]
        request = request_of([*argv, *same, f"--search.trials={TRIALS}"])
        with (
            open_cluster(replace(request.base.cluster, workers=workers)) as cluster,
            open_request(request) as study,
        ):
            cluster.client.run(work.initialize, request.base.recipe)
            began = time.monotonic()
            search(request, study, cluster)
            seconds = time.monotonic() - began
            return seconds, [trial.user_attrs["parameters_sha256"] for trial in study.get_trials()]


if __name__ == "__main__":
    run(main)
