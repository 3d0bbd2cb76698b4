"""What `classify` and `export` learn with: a trained run, one that comes with the package, or a backbone alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from fanfold.data.errors import FanfoldError
from fanfold.workflows.actions.shipped import SHIPPED
from fanfold.workflows.cli.arguments import pairs
from fanfold.workflows.cli.configuration import decided, of_run
from fanfold.workflows.cli.flags import CONFIGURATION, PREFIXES, say
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.settings import settings

ALONE = ("--algorithm.name", "nearest-mean", "--model.weights", "DEFAULT", "--model.freeze", "true")
"""How a backbone alone learns, unless the arguments after it say otherwise."""

RUN_HELP = "the run directory, fanfold:omniglot, or a backbone alone: torchvision/NAME or timm/NAME"
SIZE_HELP = "height and width of pictures, for a backbone alone; default its own"

if TYPE_CHECKING:
    from fanfold.workflows.actions.classify import Trained


def with_learner(run: str | None, argv: Sequence[str]) -> Sequence[str]:
    """The arguments after the configuration of the run that they name, if it has a directory.

    Raises:
        FanfoldError: The directory holds no run.
    """
    if run is None or run.startswith(SHIPPED):
        return argv
    if is_backbone(run):
        return [*ALONE, "--model.name", run, *argv]
    return [*of_run(run, f": train one with `{command('train', '--run', run)}`, or name fanfold:omniglot", argv), *argv]


def is_backbone(run: str) -> bool:
    """Whether it is the name of a network of torchvision or timm, in the place of a run."""
    return run.startswith(settings(PREFIXES))


USED = {
    SHIPPED: (),
    "a backbone alone": ("model", "algorithm", "size", "evaluation.flip"),
    "a run": (
        *("dataset", "algorithm", "model", "seed", "evaluation.steps", "evaluation.flip"),
        *("task.rotations", "task.reflections"),
    ),
}
"""The sections and flags of the configuration that decide how labels are found, by what finds them."""


def check_used(run: str, argv: Sequence[str], *, spread: bool = False) -> None:
    """Check that every flag of the configuration that a command's own arguments give has an effect.

    Raises:
        FanfoldError: One has none.
    """
    kind = SHIPPED if run.startswith(SHIPPED) else "a backbone alone" if is_backbone(run) else "a run"
    used = (*USED[kind], *(["cluster"] if spread else []))
    for path in (flag.removeprefix("--") for flag, _ in pairs(argv)):
        section = path.partition(".")[0]
        if (section in CONFIGURATION or path in ("seed", "size")) and not {path, section} & {*used}:
            if section == "cluster":
                raise FanfoldError(f"--{path} has no effect here: only `--spread` of classify labels over a cluster.")
            raise FanfoldError(f"--{path} has no effect with {run if kind == SHIPPED else kind}: leave it out.")


def learner(run: str, options: Namespace) -> "Trained":
    """The trained run that the arguments name.

    Raises:
        FanfoldError: It can't be read, or none of that name comes with the package.
    """
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.recording.run_directory import RunDirectory
    from fanfold.workflows.actions.classify import trained_run, trained_shipped

    if run.startswith(SHIPPED):
        return trained_shipped(run)
    if is_backbone(run):
        from fanfold.workflows.actions.classify import trained_backbone

        flip = options.evaluation.flip
        return trained_backbone(options.model, options.algorithm, options.size, flip=flip)
    return trained_run(decided(options, trains=False), RunDirectory(Path(run)), say)
