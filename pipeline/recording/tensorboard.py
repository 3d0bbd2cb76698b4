"""A run for TensorBoard: its curves, its configuration, and images of validation tasks.

    tensorboard --logdir runs

compares runs: their curves, and on the page HParams their configurations beside their accuracies. PyTorch's writer
writes the event files to `tensorboard` in the run directory.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch.utils.tensorboard import FileWriter, SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fanfold.pipeline import worker
from fanfold.pipeline.events import Event, MetaTested, TrainingStarted, Validated, WindowEnded
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.points import Points
from fanfold.pipeline.recording.task_sheet import TASKS, draw_predictions
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import Predictions

FLUSH = 10  # seconds between writes of the file
VALIDATION, TEST = "validation/accuracy", "test/accuracy"
BAND = (f"{VALIDATION}_low", f"{VALIDATION}_high")  # its 95 % confidence interval


class TensorBoard:
    """Writes a run's event files. Listens to its events.

    The points of a resumed run replace those of the iterations that it computes again.

    A run that was `tested` before has its test written again only after more training.
    """

    def __init__(self, folder: Path, recipe: Recipe, settings: Mapping[str, Any], tested: bool = False) -> None:
        self._folder, self._recipe, self._settings, self._tested = folder, recipe, settings, tested
        self._opened: SummaryWriter | None = None
        self._points = Points(recipe.meta)
        self._tasks: TaskBatch | None = None

    def __call__(self, event: Event) -> None:
        """Write an event."""
        match event:
            case TrainingStarted():
                self._start(event.iteration)
            case WindowEnded():
                self._tested = False
            case MetaTested() if self._tested:
                return
        for step, values in self._points(event):
            for tag, value in values.items():
                if not tag.rpartition("/")[2].startswith("ci95"):  # of a validation, that is drawn as a band
                    self._writer.add_scalar(tag, value, step)
        if isinstance(event, Validated):
            self._validated(event)

    def close(self, error: BaseException | None) -> None:
        """Write the end of the run, and close the file."""
        if self._opened is None:
            return
        if error is None:
            *_, ended = hparams({}, {})
            self._add(ended)
        self._opened.close()

    @property
    def _writer(self) -> SummaryWriter:
        assert self._opened is not None, "the first event of a run is its start"
        return self._opened

    def _add(self, summary: Any) -> None:
        cast(FileWriter, self._writer.file_writer).add_summary(summary)

    def _start(self, iteration: int) -> None:
        self._opened = SummaryWriter(str(self._folder), purge_step=iteration + 1, flush_secs=FLUSH)
        # In the same file: `SummaryWriter.add_hparams` would make another run.
        plain = {
            key: value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in self._settings.items()
        }
        experiment, session, _ = hparams(plain, {VALIDATION: 0.0, TEST: 0.0})
        self._add(experiment)
        self._add(session)
        self._opened.add_custom_scalars_marginchart([VALIDATION, *BAND], "validation", "accuracy and its 95 % interval")

    def _validated(self, event: Validated) -> None:
        for tag, value in zip(BAND, (event.accuracy - event.ci95, event.accuracy + event.ci95), strict=True):
            self._writer.add_scalar(tag, value, event.iteration)
        sheet = draw_predictions(self._drawn(event.predictions), event.predictions)
        self._writer.add_image("validation/tasks", sheet, event.iteration, dataformats="HWC")
        # A run resumed from the checkpoint that follows does not repeat the points before it.
        self._writer.flush()

    def _drawn(self, predictions: Predictions) -> TaskBatch:
        """The tasks to draw, which are the same at every validation."""
        if self._tasks is None:
            _, self._tasks = worker.tasks_of(self._recipe, Stream.VALIDATION, 0, min(TASKS, len(predictions)))
        return self._tasks
