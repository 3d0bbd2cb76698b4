"""Metrics of runs for Prometheus, which Dask's scheduler serves at `/metrics`."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fanfold.pipeline.dashboard.board import Board

LABELS = ("run", "name")
STATES = ("running", "finished", "pruned", "failed")


class BoardCollector(Collector):
    """Collects from the boards of this process, one for each scheduler."""

    def __init__(self) -> None:
        self.boards: list[Board] = []

    def collect(self) -> Iterator[Metric]:
        """Called by Prometheus's client with every request."""
        iterations = CounterMetricFamily("fanfold_iterations", "Meta-iterations since the run's start", labels=LABELS)
        tasks = CounterMetricFamily("fanfold_tasks", "Training tasks computed since the run's start", labels=LABELS)
        seconds = CounterMetricFamily(
            "fanfold_worker_seconds", "Worker-seconds of meta-iterations by phase", labels=(*LABELS, "phase")
        )
        done = GaugeMetricFamily("fanfold_iteration", "Meta-iterations done, earlier starts included", labels=LABELS)
        loss = GaugeMetricFamily("fanfold_loss", "Training loss", labels=LABELS)
        accuracy = GaugeMetricFamily("fanfold_accuracy_ratio", "Training accuracy", labels=LABELS)
        missed = GaugeMetricFamily("fanfold_validation_loss", "Last validation loss", labels=LABELS)
        judged = GaugeMetricFamily("fanfold_validation_accuracy_ratio", "Last validation accuracy", labels=LABELS)
        best = GaugeMetricFamily("fanfold_best_validation_accuracy_ratio", "Best validation accuracy", labels=LABELS)
        speed = GaugeMetricFamily("fanfold_tasks_per_second", "Training tasks a second", labels=LABELS)
        trials = GaugeMetricFamily("fanfold_trials", "A search's trials by state", labels=(*LABELS, "state"))
        pictures = CounterMetricFamily("fanfold_pictures", "Pictures done", labels=(*LABELS, "what"))
        for board in self.boards:
            for name, run in board.runs.items():
                who = [name, run.started["name"]]
                if run.best is not None:
                    best.add_metric(who, run.best.accuracy)
                if run.started["what"] == "search":
                    states = Counter[str](trial.told["state"] for trial in run.trials.values())
                    for state in STATES:
                        trials.add_metric([*who, state], states[state])
                    continue
                if run.started["what"] != "training":
                    if run.progress is not None:
                        pictures.add_metric([*who, run.started["what"]], run.progress["pictures"])
                    continue
                iterations.add_metric(who, run.iterations_done)
                tasks.add_metric(who, run.total.tasks)
                done.add_metric(who, run.iteration)
                for phase, value in run.total.seconds.items():
                    seconds.add_metric([*who, phase], value)
                if run.now is not None:
                    loss.add_metric(who, run.now["loss"])
                    accuracy.add_metric(who, run.now["accuracy"])
                    running = run.state == "running"
                    speed.add_metric(who, run.now["tasks"] / run.now["seconds"] if running else 0.0)
                if run.judged is not None:
                    judged.add_metric(who, run.judged["accuracy"])
                    missed.add_metric(who, run.judged["loss"])
        yield from (iterations, tasks, seconds, done, loss, accuracy, missed, judged, best, speed, trials, pictures)


_collector = BoardCollector()


def show(board: Board) -> None:
    """Serve the metrics of a board's runs."""
    if not _collector.boards:
        REGISTRY.register(_collector)
    _collector.boards.append(board)


def hide(board: Board) -> None:
    """Serve the metrics of a board's runs no longer."""
    if board in _collector.boards:
        _collector.boards.remove(board)
        if not _collector.boards:
            REGISTRY.unregister(_collector)
