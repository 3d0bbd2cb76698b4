"""Meta-test a run's parameters, and keep the result beside those of other tests."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fanfold.data.store import open_store
from fanfold.pipeline import worker
from fanfold.pipeline.by_class import as_csv, class_keys
from fanfold.pipeline.checkpoint import newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import not_learnt, test_by
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.experiment import EVALUATE_FREE, Experiment, check_agreement
from fanfold.pipeline.files import make_folder, write_bytes, write_json
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import named
from fanfold.pipeline.ways import for_ways
from fanfold.tasks.episodes import Stream
from fanfold.workflows.cli.result import environment, in_words, test_keys

Say = Callable[[str], None]  # shows a line


@dataclass(frozen=True)
class Evaluation:
    """A test that was asked for."""

    plan: Experiment
    directory: RunDirectory  # of the run
    parameters: Literal["best", "last"] = "best"
    predictions: Path | None = None  # a CSV file for every prediction

    def __post_init__(self) -> None:
        """Check that the plan is the run's.

        Raises:
            FanfoldError: It isn't.
        """
        check_agreement(self.plan, self.directory.config, EVALUATE_FREE, "A test")


def evaluate(asked: Evaluation, cluster: Cluster | None, say: Say, warn: Say | None = None) -> dict[str, Any]:
    """Test a run's parameters on tasks from the test classes; `say` shows a line. Without a cluster, in this process.

    `warn` shows what puts the test in doubt, by default as `say` does: a damaged checkpoint, a run that learnt nothing.

    With another number of ways than in training, an algorithm with a head gets another one, see `fanfold.tasks.heads`.

    Returns:
        The result, as it is kept in the run directory's `evaluations`, under a name that follows from what was asked.

    Raises:
        FanfoldError: The checkpoint can't be read, the cluster fails, or a file can't be written.
    """
    warn = warn or say
    plan, directory, best = asked.plan, asked.directory, asked.parameters == "best"
    found, note = newest_checkpoint(directory.last)
    if note is not None:
        warn(note)
    found = named(plan.recipe, found, directory.last)
    parameters = found.best if best else found.state.average
    recipe = plan.recipe if cluster is None else replace(plan.recipe, device=cluster.device)
    recipe, tested, head = for_ways(recipe, found, parameters, recipe.task.ways)
    executor = (
        LocalExecutor(recipe) if cluster is None else GraphExecutor(cluster.part(directory.path.name, "test"), recipe)
    )
    tests = test_by(executor, recipe, tested, plan.evaluation)
    names, predictions = open_store(Path(recipe.store)).names, tests[0].predictions
    episodes = worker.drawn(recipe, Stream.TEST, 0, len(predictions))
    sha256 = parameters_sha256(parameters)
    result = {
        **test_keys(plan, tests, found.best_iteration if best else found.state.iteration, sha256),
        "parameters_sha256": sha256,
        "trained_ways": plan.recipe.train.ways,
        "head": head,
        "workers": 0 if cluster is None else cluster.workers,
        "device": recipe.device,
        "note": found.note,
        "environment": environment(() if cluster is None else cluster.gpus),
        **class_keys(names, episodes, predictions),
    }
    path = directory.evaluations / f"{_name(asked, sha256)}.json"
    make_folder(path.parent)
    write_json(path, result)
    if asked.predictions is not None:
        write_bytes(asked.predictions, as_csv(names, episodes, predictions).encode("utf-8", "surrogateescape"))
    say(in_words(result))
    say(f"macro F1 {100 * result['macro_f1']:.2f} % over {len(result['classes'])} classes")
    if line := not_learnt(plan.recipe, tests[0]):
        warn(line)
    for written in (path, asked.predictions):
        if written is not None:
            say(f"written to {written}")
    return result


def _name(asked: Evaluation, sha256: str) -> str:
    """A file's name for what was asked: the same for the same, another for all else."""
    recipe, evaluation = asked.plan.recipe, asked.plan.evaluation
    judged = {
        "parameters": sha256,
        "seed": recipe.seed,
        "data": [recipe.fingerprint, recipe.split],
        "task": asdict(recipe.task),
        "train": asdict(recipe.train),
        "evaluation": [evaluation.tasks, evaluation.other_tasks, evaluation.steps],
    }
    digest = hashlib.sha256(json.dumps(judged).encode()).hexdigest()[:8]
    task = recipe.task
    return f"{task.ways}way{task.shots}shot-{evaluation.tasks}tasks-{asked.parameters}-{digest}"
