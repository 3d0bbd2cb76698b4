"""Measure Fanfold against other code, both alternating in one run: medians and ratios. `--suite` chooses.

- `pipeline`: training over the cluster against bare loops, see `workflows/benchmark/cluster.py`.
- `peers`: MAML's exact meta-gradient against other libraries', see `workflows/benchmark/peers/suite.py`.
- `scale`: the limits of scaling, with 1 to 64 simulated workers and projected, see
  `workflows/benchmark/scale/suite.py`.
"""

from collections.abc import Callable, Sequence

from fanfold.data.errors import FanfoldError
from fanfold.workflows.benchmark import cluster as pipeline
from fanfold.workflows.benchmark.peers import suite as peers
from fanfold.workflows.benchmark.scale import suite as scale
from fanfold.workflows.cli.configuration import flag_value
from fanfold.workflows.cli.entry import run

SUITES: dict[str, Callable[[Sequence[str]], None]] = {
    "pipeline": pipeline.main,
    "peers": peers.main,
    "scale": scale.main,
}


def main(argv: Sequence[str]) -> None:
    """Run a suite, see `--suite NAME --help`."""
    name = flag_value(argv, "--suite") or "pipeline"
    if name not in SUITES:
        raise FanfoldError(f"No suite '{name}': there are {', '.join(SUITES)}.")
    SUITES[name](argv)


if __name__ == "__main__":
    run(main)
