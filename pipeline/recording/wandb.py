"""A run for Weights & Biases: its configuration, its metrics, and the files of its run directory.

Weights & Biases is an extra (`wandb`). `wandb login` keeps the key. With WANDB_MODE=offline a run is written to
`wandb` in the run directory alone, and `wandb sync` sends it later.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from fanfold.data.advice import as_text, one_line
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.events import Event, WindowEnded
from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.points import Points

SECONDS = 30  # to wait for the server at the start
STEP = "iteration"  # what points are drawn over


class Wandb:
    """Sends a run to Weights & Biases, which keeps it on disk first and never delays the run. Listens to its events.

    A resumed run goes on with its own of before, whose name is kept in the run directory, and sends no iteration again.

    Args:
        project: The project's name, or `entity/project`.
        folder: The run directory.
        recipe: What is trained.
        settings: The resolved configuration by dotted keys.
        group: The name under which runs are shown together, such as a search's.

    Raises:
        FanfoldError: There is no key, or the server can't be reached.
    """

    def __init__(
        self, project: str, folder: Path, recipe: Recipe, settings: Mapping[str, Any], group: str | None = None
    ) -> None:
        import wandb  # only here: it is an extra

        self._folder, self._points = folder, Points(recipe.meta)
        wandb.setup(wandb.Settings(silent=True))  # the progress line has the terminal
        quiet = wandb.Settings(silent=True, console="off", init_timeout=SECONDS)
        entity, _, name = project.rpartition("/")
        try:
            if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False):
                raise FanfoldError(
                    "Weights & Biases has no key: `wandb login` keeps one; or set WANDB_MODE=offline to write the run "
                    "to its directory alone."
                )
            self._run = wandb.init(
                project=name,
                entity=entity or None,
                dir=folder,
                id=_identifier(folder),
                name=as_text(folder.name),
                group=group,
                config={key: value for key, value in settings.items() if value is not None},
                resume="allow",
                reinit="create_new",  # several runs may be at work in one process
                settings=quiet,
            )
        except wandb.errors.Error as error:
            raise FanfoldError(
                f"Weights & Biases can't be reached ({one_line(error)}): set WANDB_MODE=offline, or leave "
                "`record.wandb` out."
            ) from error
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        self._done = int(self._run.summary.get(STEP) or 0)  # iterations that were sent before

    def __call__(self, event: Event) -> None:
        """Keep an event's metrics."""
        for iteration, values in self._points(event):
            if iteration > self._done or not isinstance(event, WindowEnded):
                self._run.log({**values, STEP: iteration})

    def close(self, error: BaseException | None) -> None:
        """Keep the run's files, and its state."""
        for path in sorted(self._folder.iterdir()):
            if path.is_file():
                self._run.save(path, base_path=self._folder, policy="now")
        self._run.finish(exit_code=0 if error is None else 1)


def _identifier(folder: Path) -> str:
    """The name that the run directory has for Weights & Biases, kept there."""
    path = folder / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, uuid4().hex[:16].encode())
    return path.read_text()
