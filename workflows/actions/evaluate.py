"""Meta-test a run's parameters, and keep the result beside those of other tests."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fanfold.data.advice import counted
from fanfold.data.errors import FanfoldError
from fanfold.data.store import Store, open_store
from fanfold.pipeline import worker
from fanfold.pipeline.by_class import class_keys, csv_lines
from fanfold.pipeline.checkpoint import Checkpoint, Statistics, newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import Configuration, TaskConfig
from fanfold.pipeline.embed_once import embed_once
from fanfold.pipeline.ensemble import Member, ensemble_sha256, meta_test_together
from fanfold.pipeline.evaluation import Each, meta_test, normalizations, not_learnt
from fanfold.pipeline.events import Noticed
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.experiment import EVALUATE_FREE, Experiment, check_agreement
from fanfold.pipeline.files import make_folder, write_json, writing
from fanfold.pipeline.fitting import fit, own_parameters
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.tally import Tested
from fanfold.pipeline.training import named
from fanfold.pipeline.ways import for_ways
from fanfold.tasks.episodes import Episodes
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.heads import Head
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.actions.refit import is_of_another
from fanfold.workflows.cli.result import environment, in_words, test_keys, worst_in_words

Say = Callable[[str], None]  # shows a line
LISTED = 5  # classes of the lowest accuracies that a test shows


@dataclass(frozen=True)
class Evaluation:
    """A test that was asked for."""

    plan: Experiment
    directory: RunDirectory  # of the run
    parameters: Literal["best", "last"] = "best"
    predictions: Path | None = None  # a CSV file for every prediction
    data_named: bool = False  # whether the plan's data may be others than the run's
    home: Recipe | None = None  # the run's own, of a test on other data
    others: tuple["Evaluation", ...] = ()  # of runs that judge the same tasks with this one, see `joined_by`

    def __post_init__(self) -> None:
        """Check that the plan is the run's.

        Raises:
            FanfoldError: It isn't.
        """
        refitted = _is_refitted(self)
        free = (*EVALUATE_FREE, "dataset.") if self.data_named else EVALUATE_FREE
        free = (*free, "algorithm.") if refitted else free
        check_agreement(self.plan, self.directory.config, free, "A test")


def on_the_tasks_of(plan: Experiment, own: Configuration) -> Configuration:
    """A run's configuration, with the tasks of another run's test, and as many inner steps where it has any."""
    steps = plan.evaluation.steps if hasattr(own.algorithm, "inner_steps") else None
    evaluation = replace(plan.evaluation, steps=steps)
    task = TaskConfig(**asdict(plan.recipe.task))
    return replace(own, task=task, dataset=plan.config["dataset"], evaluation=evaluation)


def joined_by(asked: Evaluation, others: Sequence[tuple[Experiment, RunDirectory]]) -> Evaluation:
    """The test of a run with others as an ensemble, each by a plan `on_the_tasks_of` the first.

    Raises:
        FanfoldError: A run is there twice, was trained on other data or by another split, or can't judge such tasks.
    """
    if asked.data_named or isinstance(asked.plan.recipe.algorithm, Fitted):
        raise FanfoldError("`ensemble` is for runs as they were trained: test them on their own data.")
    paths = [directory.path.resolve() for directory in (asked.directory, *(directory for _, directory in others))]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise FanfoldError(f"`ensemble` has the run {twice.name} twice: each counts once.")
    split = _split_of(asked.directory)
    if other := next((one for _, one in others if _split_of(one) != split), None):
        raise FanfoldError(
            f"`ensemble`: {other.path} was trained by the split {_split_of(other)}, {asked.directory.path} by {split}. "
            "The test classes of one run may be training classes of the other."
        )
    return replace(asked, others=tuple(Evaluation(*other, asked.parameters) for other in others))


@dataclass(frozen=True)
class Measured:
    """A test's result."""

    keys: dict[str, Any]  # as they are kept in a file
    tested: Tested  # as published
    note: str | None = None  # on a damaged checkpoint


def evaluate(asked: Evaluation, cluster: Cluster | None, say: Say, warn: Say | None = None) -> dict[str, Any]:
    """Test a run's parameters on tasks from the test classes; `say` shows a line. Without a cluster, in this process.

    `warn` shows what puts the test in doubt, by default as `say` does: a damaged checkpoint, a run that learnt nothing.

    With another number of ways than in training, an algorithm with a head gets another one, see `fanfold.tasks.heads`.
    With others the run judges each task together, see `fanfold.pipeline.ensemble`.

    Returns:
        The result, as it is kept in the run directory's `evaluations`, under a name that follows from what was asked.

    Raises:
        FanfoldError: The checkpoint can't be read, the cluster fails, or a file can't be written.
    """
    warn = warn or say
    measured = measure(asked, cluster, say)
    if measured.note is not None:
        warn(measured.note)
    result = measured.keys
    path = asked.directory.evaluations / f"{_name(asked, result['parameters_sha256'])}.json"
    make_folder(path.parent)
    write_json(path, result)
    say(in_words(result))
    say(f"macro F1 {100 * result['macro_f1']:.2f} % over {counted(len(result['classes']), 'class')}")
    say("\n".join(worst_in_words(result["classes"], LISTED)))
    if line := not_learnt(asked.plan.recipe, measured.tested):
        warn(line)
    for written in (path, asked.predictions):
        if written is not None:
            say(f"written to {written}")
    return result


def measure(asked: Evaluation, cluster: Cluster | None, say: Say) -> Measured:
    """The test alone: no file is written but that of the predictions, where they are asked for.

    Raises:
        FanfoldError: The checkpoint can't be read, or the cluster fails.
    """
    plan, directory = asked.plan, asked.directory
    executor = (
        LocalExecutor(plan.recipe)
        if cluster is None
        else GraphExecutor(cluster.part(directory.name, "test"), plan.recipe)
    )
    device = "cpu" if cluster is None else cluster.device
    networks = [_network(one, executor, device, say) for one in (asked, *asked.others)]
    first, *others = networks
    member, evaluation = first.member, plan.evaluation
    store = open_store(member.recipe.store)
    with _predictions_in(asked.predictions, store) as each:
        if others:
            tests = meta_test_together(executor, [one.member for one in networks], evaluation, each, say)
        else:
            tests = meta_test(executor, member.recipe, member.parameters, evaluation, member.population, each, say)
    vectors = [one.parameters for one in networks]
    sha256 = ensemble_sha256(vectors) if others else parameters_sha256(*vectors)
    keys = {
        **test_keys(plan, tests, None if others else first.iteration, sha256),
        **({"members": [one.member.name for one in networks]} if others else {}),
        "parameters_sha256": sha256,
        "trained_ways": plan.recipe.train.ways,
        "head": first.head,
        "workers": 0 if cluster is None else cluster.workers,
        "device": device,
        "note": first.found.note,
        "environment": environment(() if cluster is None else cluster.gpus),
        **class_keys(store.names, tests[0].tally),
    }
    return Measured(keys, tests[0], " ".join(one.note for one in networks if one.note is not None) or None)


@dataclass(frozen=True)
class _Network:
    """A run's network, ready to be tested."""

    member: Member  # as it is tested
    parameters: Vector  # as it was trained
    iteration: int | None
    head: Head | None  # in the place of its own
    found: Checkpoint
    note: str | None  # on a damaged checkpoint


def _network(asked: Evaluation, executor: Executor, device: Literal["cpu", "cuda"], say: Say) -> _Network:
    """A run's network, its embeddings where they are made once, and its head for other ways.

    Raises:
        FanfoldError: The checkpoint can't be read, or the cluster fails.
    """
    plan, directory, best = asked.plan, asked.directory, asked.parameters == "best"
    refitted = _is_refitted(asked)
    own = () if refitted else (partial(named, plan.recipe),)
    found, note = newest_checkpoint(directory.last, *own)
    parameters = found.best if best else found.state.average
    recipe, tested, head, statistics = (
        (plan.recipe, parameters, None, None) if refitted else _tested(asked, found, parameters)
    )
    recipe = replace(recipe, device=device)
    embed_once(executor, recipe, lambda event: say(event.text) if isinstance(event, Noticed) else None)
    if refitted:
        fitted = fit(executor, recipe, own_parameters(recipe, found, parameters), plan.evaluation.validation_tasks)
        tested, statistics = fitted.parameters, fitted.statistics
        say(f"{recipe.algorithm.name}, fitted on validation classes, judges the embeddings of the run's network")
    iteration = found.best_iteration if best else found.state.iteration
    return _Network(Member(directory.name, recipe, tested, statistics), parameters, iteration, head, found, note)


def _tested(
    asked: Evaluation, found: Checkpoint, parameters: Vector
) -> tuple[Recipe, Vector, Head | None, Statistics | None]:
    """What is tested: recipe, parameters, the head in the place of their own, and batch norm's statistics.

    Statistics and head are of the run's own data, whatever data are tested on; the statistics are None where the test
    finds them itself.

    Raises:
        FanfoldError: The run's own data are needed, and are not there.
    """
    recipe, published = asked.plan.recipe, normalizations(asked.plan.recipe)[0]
    if recipe.fingerprint == found.fingerprint or not asked.data_named:
        worker.open_context(replace(recipe, device="cpu", fingerprint=found.fingerprint))
        return *for_ways(recipe, found, parameters, recipe.task.ways), None
    statistics = found.statistics if parameters is found.best else {}
    needs_head = recipe.algorithm.head and recipe.train.ways != recipe.task.ways
    needs_statistics = published == "population" and not statistics
    if asked.home is None and (needs_head or needs_statistics):
        raise FanfoldError(
            f"{asked.directory.path} needs the data that it was trained on for this test: prepare them again, or test "
            + ("with `parameters=best`." if needs_statistics else f"with `task.ways={recipe.train.ways}`.")
        )
    if asked.home is None:
        return recipe, parameters, None, statistics or None
    home = replace(asked.home, task=recipe.task, fingerprint=found.fingerprint)
    if needs_statistics:
        statistics = worker.statistics(home, parameters)
    wanted, vector, head = for_ways(home, found, parameters, recipe.task.ways)
    return replace(recipe, train=wanted.train), vector, head, statistics or None


@contextmanager
def _predictions_in(path: Path | None, store: Store) -> Iterator[Each]:
    """Writes each prediction as a line of a CSV file, which is whole when the block ends; without a path, none."""
    if path is None:
        yield lambda *_: None
        return
    with writing(path) as file:

        def write(first: int, episodes: Episodes, predictions: Predictions) -> None:
            file.write(csv_lines(store, episodes, predictions, first).encode("utf-8", "surrogateescape"))

        yield write


def _split_of(directory: RunDirectory) -> Any:
    """The split of classes that a run was trained by."""
    return read_configuration(directory.config).get("dataset", {}).get("split")


def _is_refitted(asked: Evaluation) -> bool:
    return is_of_another(asked.plan, asked.directory, "be tested")


def _name(asked: Evaluation, sha256: str) -> str:
    """A file's name for what was asked: the same for the same, another for all else."""
    recipe, evaluation = asked.plan.recipe, asked.plan.evaluation
    judged = {
        "parameters": sha256,
        "seed": recipe.seed,
        "data": [recipe.fingerprint, recipe.split],
        "task": asdict(recipe.task),
        "train": asdict(recipe.train),
        **({"algorithm": asdict(recipe.algorithm)} if isinstance(recipe.algorithm, Fitted) else {}),
        "evaluation": [evaluation.tasks, evaluation.half_width, evaluation.other_tasks, evaluation.steps],
        **({"flip": True} if evaluation.flip else {}),
    }
    digest = hashlib.sha256(json.dumps(judged).encode()).hexdigest()[:8]
    task = recipe.task
    together = f"-ensemble{len(asked.others) + 1}" if asked.others else ""
    return f"{task.ways}way{task.shots}shot-{evaluation.tasks}tasks-{asked.parameters}{together}-{digest}"
