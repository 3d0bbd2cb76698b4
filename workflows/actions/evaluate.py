"""Meta-test a run's parameters, and keep the result beside those of other tests."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fanfold.data.source import ClassName
from fanfold.data.store import open_store
from fanfold.pipeline.by_class import class_keys, csv_lines
from fanfold.pipeline.checkpoint import newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import Each, meta_test, not_learnt
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.experiment import EVALUATE_FREE, Experiment, check_agreement
from fanfold.pipeline.files import make_folder, write_json, writing
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.training import named
from fanfold.pipeline.ways import for_ways
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.predictions import Predictions
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
    names = open_store(Path(recipe.store)).names
    with _predictions_in(asked.predictions, names) as each:
        tests = meta_test(executor, recipe, tested, plan.evaluation, each=each, say=say)
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
        **class_keys(names, tests[0].tally),
    }
    path = directory.evaluations / f"{_name(asked, sha256)}.json"
    make_folder(path.parent)
    write_json(path, result)
    say(in_words(result))
    say(f"macro F1 {100 * result['macro_f1']:.2f} % over {len(result['classes'])} classes")
    if line := not_learnt(plan.recipe, tests[0]):
        warn(line)
    for written in (path, asked.predictions):
        if written is not None:
            say(f"written to {written}")
    return result


@contextmanager
def _predictions_in(path: Path | None, names: Sequence[ClassName]) -> Iterator[Each]:
    """Writes each prediction as a line of a CSV file, which is whole when the block ends; without a path, none."""
    if path is None:
        yield lambda *_: None
        return
    with writing(path) as file:

        def write(first: int, episodes: Episodes, predictions: Predictions) -> None:
            file.write(csv_lines(names, episodes, predictions, first).encode("utf-8", "surrogateescape"))

        yield write


def _name(asked: Evaluation, sha256: str) -> str:
    """A file's name for what was asked: the same for the same, another for all else."""
    recipe, evaluation = asked.plan.recipe, asked.plan.evaluation
    judged = {
        "parameters": sha256,
        "seed": recipe.seed,
        "data": [recipe.fingerprint, recipe.split],
        "task": asdict(recipe.task),
        "train": asdict(recipe.train),
        "evaluation": [evaluation.tasks, evaluation.half_width, evaluation.other_tasks, evaluation.steps],
    }
    digest = hashlib.sha256(json.dumps(judged).encode()).hexdigest()[:8]
    task = recipe.task
    return f"{task.ways}way{task.shots}shot-{evaluation.tasks}tasks-{asked.parameters}-{digest}"
