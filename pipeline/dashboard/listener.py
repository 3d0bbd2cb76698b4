"""The driver's side of the page: a run's events, sent to the scheduler in small messages."""

import time
from collections.abc import Mapping
from typing import Any

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
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.episodes import Stream

EVERY = 1.0  # seconds between messages about windows


class RunTeller:
    """Sends a run's events to the page. Listens to them."""

    def __init__(self, client: Client, name: str, recipe: Recipe, config: Mapping[str, Any]) -> None:
        self.wire = Wire(client)
        self._client, self._name, self._recipe, self._config = client, name, recipe, config
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
        meta = self._recipe.meta
        self.wire.send(
            {
                "kind": "started",
                "run": event.run,
                "what": "training",
                "name": self._name,
                "client": self._client.id,
                "config": {key: str(value) for key, value in self._config.items()},
                "iteration": event.iteration,
                "iterations": event.iterations,
                "batch": meta.batch,
                "chunk": meta.chunk,
            }
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
                "guesses": predictions.labels[:tasks, :, :QUERIES].tolist(),
                "confidences": predictions.confidences[:tasks, :, :QUERIES].round(3).astype(float).tolist(),
            }
        )
