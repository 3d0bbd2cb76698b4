"""Make the file of a run that is shipped: `python -m benchmarks.weights RUN workflows/weights/NAME.safetensors`.

Its calibrations are measured on the run's validation classes.
"""

import sys
from pathlib import Path

from fanfold.pipeline.checkpoint import newest_checkpoint
from fanfold.pipeline.labelling import learner_of, measure, open_preprocessing
from fanfold.pipeline.learner_file import KeptLearner, write_learner
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import named
from fanfold.workflows.cli.configuration import build_parser, decided, of_run, parse
from fanfold.workflows.cli.flags import CONFIGURATION

SHAPES = [(ways, shots) for ways in (2, 5, 10, 20) for shots in (1, 5)]


def main(run: str, out: str, *more: str) -> None:
    argv = [*of_run(run, "", more), *more]
    parser = build_parser("weights", __doc__, argv, CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0)
    plan = decided(parse(parser, argv), trains=False)
    found, _ = newest_checkpoint(RunDirectory(Path(run)).last)
    learner = learner_of(plan.recipe, named(plan.recipe, found, Path(run)))
    calibrations = [one for shape in SHAPES if (one := measure(plan.recipe, learner, *shape)) is not None]
    for one in calibrations:
        print(one, f"AUROC {one.auroc:.3f}")
    write_learner(Path(out), KeptLearner(learner, open_preprocessing(plan.recipe), calibrations))


if __name__ == "__main__":
    main(*sys.argv[1:])
