"""Train and test the rows of a table, several at once."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import Checkpoint, newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.shares import Shares
from fanfold.pipeline.ensemble import Member, ensemble_sha256, meta_test_together
from fanfold.pipeline.evaluation import test
from fanfold.pipeline.events import Event, Listener, MetaTested
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.recording.progress import Terminal
from fanfold.pipeline.training import train
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.listeners import Recording, listening
from fanfold.workflows.cli.result import in_words, run_keys, test_keys, tested_once
from fanfold.workflows.reporting.history import read_history
from fanfold.workflows.reporting.table import add_to_table
from fanfold.workflows.reporting.table_rows import Ensemble, Row, Training


def run_all(
    planned: Sequence[Training],
    ensembles: Sequence[Ensemble],
    cluster: Cluster,
    at_once: int,
    out: Path,
    recording: Recording,
) -> list[str]:
    """Train and test several runs at once, each on its share of the workers; the table is written after each.

    Ensembles are tested at the end, each on all workers. A failed run stops no other, but the ensembles that it is of.
    Returns the errors of failed runs, a line each.
    """
    shares, stopped, failures = Shares(cluster), threading.Event(), dict[str, str]()
    with Terminal(in_flags) as terminal, ThreadPoolExecutor(at_once) as pool:

        def complete(training: Training) -> list[dict[str, Any]]:
            with shares.one() as share:
                return _complete(training, share.part(training.name), terminal, stopped, recording)

        def add(found: Sequence[dict[str, Any]]) -> None:
            for keys in found:
                terminal.say(f"{keys['row']}: {in_words(keys)}")
            add_to_table(out, found)

        running = {pool.submit(complete, training): training for training in planned}
        try:
            for future in as_completed(running):
                name = running[future].name
                try:
                    found = future.result()
                except FanfoldError as error:
                    failures[name] = f"{name}: {error}"
                    terminal.say(failures[name], style="red")
                    continue
                add(found)
            for ensemble in ensembles:
                if lacking := [run.name for run in ensemble.trainings if run.name in failures]:
                    terminal.say(f"{ensemble.name}: not tested, as {', '.join(lacking)} failed", style="red")
                else:
                    add([_test_ensemble(ensemble, cluster)])
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return list(failures.values())


def _complete(
    training: Training, cluster: Cluster, terminal: Terminal, stopped: threading.Event, recording: Recording
) -> list[dict[str, Any]]:
    """Train to the end from the run's last checkpoint, and test for each of its rows."""

    def stop(_: Event) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt

    plan, directory = training.plan, training.directory
    recipe = replace(plan.recipe, device=cluster.device)
    with (
        directory.writing(plan.yaml, resumed=directory.config.exists()),
        listening(plan, cluster, directory, terminal, training.name, recording) as listeners,
    ):
        last = train(cluster, recipe, plan.evaluation, directory, [*listeners, stop], plan.note)
        return [_test(row, training, last, cluster, listeners) for row in training.rows]


def _test(
    row: Row, training: Training, last: Checkpoint, cluster: Cluster, listeners: Sequence[Listener]
) -> dict[str, Any]:
    """A row's result, from the test of before where that is the same."""
    recipe, sha256 = replace(row.plan.recipe, device=cluster.device), parameters_sha256(last.best)

    def measure(_: dict[str, Any]) -> dict[str, Any]:
        tests = test(cluster, recipe, last.best, row.plan.evaluation)
        for listener in listeners:
            listener(MetaTested(tuple(tests), None if training.name == row.run else row.name))
        keys = test_keys(row.plan, tests, last.best_iteration, sha256)
        return {"row": row.name, **keys, **run_keys(last, recipe, cluster)}

    found = tested_once(training.directory.path / f"row-{row.name}.json", row.plan, sha256, measure)
    # A run that went on may have found nothing better.
    return {**found, **run_keys(last, recipe, cluster), "validations": _validations(row, training)}


def _validations(row: Row, training: Training) -> list[list[float]]:
    """Iterations, accuracy and its interval of each validation; none where it was on the tasks of another row."""
    if training.plan.recipe.task != row.plan.recipe.task:
        return []
    history = read_history(training.directory)
    found: list[list[float]] = np.stack([history.validated, history.validation, history.ci95], 1).tolist()
    return found


def _test_ensemble(ensemble: Ensemble, cluster: Cluster) -> dict[str, Any]:
    """The result of an ensemble of trained runs, on the test tasks of its first seed."""
    ends = [newest_checkpoint(run.directory.last)[0] for run in ensemble.trainings]
    recipes = [replace(row.plan.recipe, device=cluster.device) for row in ensemble.rows]
    names = [run.name for run in ensemble.trainings]
    members = [Member(name, recipe, end.best) for name, recipe, end in zip(names, recipes, ends, strict=True)]
    plan, sha256 = ensemble.rows[0].plan, ensemble_sha256([end.best for end in ends])

    def measure(_: dict[str, Any]) -> dict[str, Any]:
        executor = GraphExecutor(cluster.part(ensemble.name, "test"), recipes[0])
        tests = meta_test_together(executor, members, plan.evaluation)
        return {"row": ensemble.name, "members": names, **test_keys(plan, tests, None, sha256)}

    found = tested_once(ensemble.trainings[0].directory.path / f"row-{ensemble.name}.json", plan, sha256, measure)
    runs = [run_keys(end, recipe, cluster) for end, recipe in zip(ends, recipes, strict=True)]
    total = {key: sum(run[key] for run in runs) for key in ("iterations", "train_seconds")}
    shared = {key: runs[0][key] for key in ("workers", "device", "initial", "environment")}
    return {**found, **shared, **total, "parameters_sha256": ensemble_sha256([end.state.parameters for end in ends])}
