"""The curves of a run: what its events add to them, by the same names for every recorder that draws curves."""

from collections.abc import Sequence

from fanfold.pipeline.events import Event, MetaTested, TrainingStarted, Validated, WindowEnded
from fanfold.pipeline.recipe import Meta

Point = tuple[int, dict[str, float]]
"""Iterations done, as in `metrics.jsonl`, and values by the names of their curves."""


class Points:
    """Turns a run's events, one after the other, into points of its curves."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta
        self._iteration = 0

    def __call__(self, event: Event) -> Sequence[Point]:
        """The points that an event adds."""
        match event:
            case TrainingStarted():
                self._iteration = event.iteration
            case WindowEnded():
                return self._window(event)
            case Validated():
                values = {"loss": event.loss, "accuracy": event.accuracy, "ci95": event.ci95}
                return [(event.iteration, {f"validation/{name}": float(value) for name, value in values.items()})]
            case MetaTested():
                return self._test(event)
        return ()

    def _window(self, event: WindowEnded) -> Sequence[Point]:
        points = [
            (
                record.iteration + 1,
                {
                    "train/loss": float(record.loss),
                    "train/accuracy": float(record.accuracy),
                    "train/meta_learning_rate": self._meta.lr_at(record.iteration),
                },
            )
            for record in event.some()
        ]
        self._iteration, last = points[-1]
        last["train/tasks_per_second"] = event.tasks_per_second
        return points

    def _test(self, event: MetaTested) -> Sequence[Point]:
        group = "test" if event.name is None else f"test/{event.name}"
        points = []
        for place, test in enumerate(event.tests):
            kind = "" if place == 0 else "_transductive" if test.transductive else "_inductive"
            values = {f"accuracy{kind}": test.accuracy.mean, f"ci95{kind}": test.accuracy.ci95}
            points.append((self._iteration, {f"{group}/{name}": value for name, value in values.items()}))
        return points
