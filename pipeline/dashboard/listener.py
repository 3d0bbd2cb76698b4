"""The driver's side of the page: a run's events, and the progress of other work, sent in small messages."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any
from uuid import uuid4

from distributed import Client

from fanfold.pipeline import worker
from fanfold.pipeline.dashboard.drawings import QUERIES, SHOTS, draw, how_many
from fanfold.pipeline.dashboard.wire import Wire
from fanfold.pipeline.events import (
    Event,
    MetaTested,
    Noticed,
    ReductionPicked,
    TrainingEnded,
    TrainingStarted,
    Validated,
    WindowEnded,
    seconds_left,
    share_done,
)
from fanfold.pipeline.messages import Work
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.episodes import Stream

EVERY = 1.0  # seconds between messages about windows


class RunTeller:
    """Sends a run's events to the page. Listens to them."""

    def __init__(self, client: Client, name: str, recipe: Recipe, config: Mapping[str, Any]) -> None:
        self.wire = Wire(client)
        self._name, self._recipe, self._config = name, recipe, config
        self._started = TrainingStarted("", 0, None, 0.0, None)
        self._windows: list[WindowEnded] = []
        self._sent = 0.0
        self._drawn = False

    def __call__(self, event: Event) -> None:
        """Send an event."""
        match event:
            case TrainingStarted():
                self._start(event)
            case WindowEnded():
                self._windows.append(event)
                if time.monotonic() - self._sent >= EVERY:
                    self._tell_windows()
            case Validated():
                self._tell_windows()
                self._judge(event)
            case Noticed():
                self._say(event.text)
            case ReductionPicked() if event.why:
                self._say(f"reduction: {event.reduction} ({event.why})")
            case TrainingEnded():
                self._tell_windows()
            case MetaTested():
                of = "" if event.name is None else f"{event.name}: "
                for test in event.tests:
                    self._say(f"{of}test accuracy {test}")

    def close(self, error: BaseException | None) -> None:
        """Send the end of the run, if it began."""
        if self._started.run:
            self.wire.end(self._started.run, error)

    def _say(self, text: str) -> None:
        self.wire.send({"kind": "said", "run": self._started.run, "text": text})

    def _start(self, event: TrainingStarted) -> None:
        self._started = event
        self.wire.begin(
            event.run,
            "training",
            self._name,
            event.iterations,
            iteration=event.iteration,
            config=self._config,
            batch=self._recipe.meta.batch,
            chunk=self._recipe.meta.chunk,
        )

    def _tell_windows(self) -> None:
        """Send the windows since the last message as one."""
        if not self._windows:
            return
        records = [record for window in self._windows for record in window.records]
        tasks = [self._recipe.meta.batch * len(window.records) for window in self._windows]
        seconds = sum(count / window.tasks_per_second for count, window in zip(tasks, self._windows, strict=True))
        last = self._windows[-1]
        self.wire.send(
            {
                "kind": "windows",
                "run": self._started.run,
                "iteration": records[-1].iteration + 1,
                "iterations": len(records),
                "tasks": sum(tasks),
                "seconds": seconds,
                "loss": sum(record.loss for record in records) / len(records),
                "accuracy": sum(record.accuracy for record in records) / len(records),
                "done": share_done(self._started, last),
                "left": seconds_left(self._started, last),
            }
        )
        self._windows, self._sent = [], time.monotonic()

    def _judge(self, event: Validated) -> None:
        shape, predictions = self._recipe.task, event.predictions
        tasks = how_many(len(predictions), shape.ways, shape.shots, shape.queries)
        if not self._drawn:  # every validation has the same tasks
            self._drawn = True
            _, batch = worker.tasks_of(self._recipe, Stream.VALIDATION, 0, tasks)
            drawn = draw(*batch.by_class())
            self.wire.send(
                {"kind": "drawn", "run": self._started.run, "tasks": drawn, "shots": min(shape.shots, SHOTS)}
            )
        self.wire.send(
            {
                "kind": "judged",
                "run": self._started.run,
                "iteration": event.iteration,
                "loss": event.loss,
                "accuracy": float(event.accuracy),
                "ci95": float(event.ci95),
                "labels": predictions.labels[:tasks, :, :QUERIES].tolist(),
                "confidences": predictions.confidences[:tasks, :, :QUERIES].round(3).astype(float).tolist(),
            }
        )


class WorkTeller:
    """Tells the page how far work on pictures is, once a second at most, and how it ends.

    A context manager, whose function is told how many more pictures are done.

    Args:
        client: The driver's connection.
        what: The work.
        name: Its name on the page.
        pictures: How many pictures there are.
    """

    def __init__(self, client: Client, what: Work, name: str, pictures: int) -> None:
        self._wire, self._run, self._pictures = Wire(client), uuid4().hex[:8], pictures
        self._done, self._began, self._sent = 0, time.monotonic(), 0.0
        with suppress(Exception):  # work does without its page
            self._wire.begin(self._run, what, name, pictures)

    def _more(self, more: int) -> None:
        self._done += more
        if (now := time.monotonic()) - self._sent >= EVERY or self._done == self._pictures:
            self._sent = now
            left = (now - self._began) * (self._pictures - self._done) / max(self._done, 1)
            share = self._done / max(self._pictures, 1)
            with suppress(Exception):
                self._wire.send(
                    {"kind": "progressed", "run": self._run, "pictures": self._done, "done": share, "left": left}
                )

    def __enter__(self) -> Callable[[int], None]:
        return self._more

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wire.end(self._run, None if kind is GeneratorExit else error)
