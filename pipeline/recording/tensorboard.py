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
from fanfold.pipeline.recording.task_sheet import TASKS, draw_predictions
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import Predictions

FLUSH = 10  # seconds between writes of the file
VALIDATION, TEST = "validation/accuracy", "test/accuracy"
INTERVAL = (VALIDATION, f"{VALIDATION}_low", f"{VALIDATION}_high")


class TensorBoard:
    """Writes a run's event files. Listens to its events.

    A point's step is the number of iterations done, as in `metrics.jsonl`. The points of a resumed run replace those of
    the iterations that it computes again.

    A run that was `tested` before has its test written again only after more training.
    """

    def __init__(self, folder: Path, recipe: Recipe, settings: Mapping[str, Any], tested: bool = False) -> None:
        self._folder, self._recipe, self._settings, self._tested = folder, recipe, settings, tested
        self._opened: SummaryWriter | None = None
        self._iteration = 0
        self._tasks: TaskBatch | None = None

    def __call__(self, event: Event) -> None:
        """Write an event."""
        match event:
            case TrainingStarted():
                self._start(event.iteration)
            case WindowEnded():
                self._window(event)
            case Validated():
                self._validated(event)
            case MetaTested() if not self._tested:
                self._test(event)

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
        self._iteration = iteration
        self._opened = SummaryWriter(str(self._folder), purge_step=iteration + 1, flush_secs=FLUSH)
        # In the same file: `SummaryWriter.add_hparams` would make another run.
        plain = {
            key: value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in self._settings.items()
        }
        experiment, session, _ = hparams(plain, {VALIDATION: 0.0, TEST: 0.0})
        self._add(experiment)
        self._add(session)
        self._opened.add_custom_scalars_marginchart(list(INTERVAL), "validation", "accuracy and its 95 % interval")

    def _window(self, event: WindowEnded) -> None:
        for record in event.some():
            step = record.iteration + 1
            self._writer.add_scalar("train/loss", record.loss, step)
            self._writer.add_scalar("train/accuracy", record.accuracy, step)
            self._writer.add_scalar("train/meta_learning_rate", self._recipe.meta.lr_at(record.iteration), step)
            self._iteration, self._tested = step, False
        self._writer.add_scalar("train/tasks_per_second", event.tasks_per_second, self._iteration)

    def _validated(self, event: Validated) -> None:
        low, high = event.accuracy - event.ci95, event.accuracy + event.ci95
        self._writer.add_scalar("validation/loss", event.loss, event.iteration)
        for tag, value in zip(INTERVAL, (event.accuracy, low, high), strict=True):
            self._writer.add_scalar(tag, value, event.iteration)
        sheet = draw_predictions(self._drawn(event.predictions), event.predictions)
        self._writer.add_image("validation/tasks", sheet, event.iteration, dataformats="HWC")
        # A run resumed from the checkpoint that follows does not repeat the points before it.
        self._writer.flush()

    def _test(self, event: MetaTested) -> None:
        tag = TEST if event.name is None else f"test/{event.name}/accuracy"
        for place, test in enumerate(event.tests):
            kind = "" if place == 0 else "_transductive" if test.transductive else "_inductive"
            self._writer.add_scalar(tag + kind, test.accuracy.mean, self._iteration)

    def _drawn(self, predictions: Predictions) -> TaskBatch:
        """The tasks to draw, which are the same at every validation."""
        if self._tasks is None:
            _, self._tasks = worker.tasks_of(self._recipe, Stream.VALIDATION, 0, min(TASKS, len(predictions)))
        return self._tasks
