"""Measure Fanfold against others, all sides in one run, alternating: medians and ratios. `--suite` says what.

- `pipeline`: training over the cluster against bare loops, see `workflows/suites/pipeline.py`.
- `peers`: MAML's exact meta-gradient against other libraries', see `workflows/suites/peers.py`.
- `scale`: where it bends, with 1 to 64 simulated workers and on paper, see `workflows/suites/scale.py`.
"""

from collections.abc import Callable, Sequence

from data.errors import FanfoldError
from workflows.configuration import flag_value
from workflows.entry import run
from workflows.suites import peers, pipeline, scale

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
