"""What `classify` and `export` learn with: a trained run, or one that comes with the package."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from fanfold.workflows.actions.shipped import SHIPPED
from fanfold.workflows.cli.configuration import decided, of_run
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.program import command

if TYPE_CHECKING:
    from fanfold.workflows.actions.classify import Trained


def with_learner(run: str | None, argv: Sequence[str]) -> Sequence[str]:
    """The arguments after the configuration of the run that they name, if it has a directory.

    Raises:
        FanfoldError: The directory holds no run.
    """
    if run is None or run.startswith(SHIPPED):
        return argv
    return [*of_run(run, f": train one with `{command('train', '--run', run)}`, or name fanfold:omniglot", argv), *argv]


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
    return trained_run(decided(options, trains=False), RunDirectory(Path(run)), say)


def say(line: str) -> None:
    """Print a line at once, with fields worded as flags."""
    print(in_flags(line), flush=True)
