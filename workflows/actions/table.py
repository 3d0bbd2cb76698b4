"""Train and test the rows of a table, several at once."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.checkpoint import Checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.shares import Shares
from fanfold.pipeline.evaluation import test
from fanfold.pipeline.events import Event, Listener, MetaTested
from fanfold.pipeline.recording.progress import Terminal
from fanfold.pipeline.training import train
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.listeners import Recording, listening
from fanfold.workflows.cli.result import in_words, run_keys, test_keys, tested_once
from fanfold.workflows.reporting.table import add_to_table
from fanfold.workflows.reporting.table_rows import Row, Training


def run_all(planned: Sequence[Training], cluster: Cluster, at_once: int, out: Path, recording: Recording) -> list[str]:
    """Train and test several runs at once, each on its share of the workers; the table is written after each.

    A failed run stops no other. Returns the errors of failed runs, a line each.
    """
    shares, stopped, failures = Shares(cluster), threading.Event(), []
    with Terminal(in_flags) as terminal, ThreadPoolExecutor(at_once) as pool:

        def complete(training: Training) -> list[dict[str, Any]]:
            with shares.one() as share:
                return _complete(training, share.part(training.name), terminal, stopped, recording)

        running = {pool.submit(complete, training): training for training in planned}
        try:
            for future in as_completed(running):
                name = running[future].name
                try:
                    found = future.result()
                except FanfoldError as error:
                    failures.append(f"{name}: {error}")
                    terminal.say(f"{name}: {error}", style="red")
                    continue
                for keys in found:
                    terminal.say(f"{keys['row']}: {in_words(keys)}")
                add_to_table(out, found)
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return failures


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
    recipe = replace(row.plan.recipe, device=cluster.device)

    def measure(_: dict[str, Any]) -> dict[str, Any]:
        tests = test(cluster, recipe, last.best, row.plan.evaluation)
        for listener in listeners:
            listener(MetaTested(tuple(tests), None if training.name == row.run else row.name))
        keys = test_keys(row.plan, tests, last.best_iteration, parameters_sha256(last.best))
        return {"row": row.name, **keys, **run_keys(last, recipe, cluster)}

    found = tested_once(training.directory.path / f"row-{row.name}.json", row.plan, last, measure)
    return found | run_keys(last, recipe, cluster)  # a run that went on may have found nothing better
