"""Search for a configuration, and test the best one."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from fanfold.data.advice import as_text, counted
from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline import yaml_text
from fanfold.pipeline.checkpoint import Checkpoint, newest_checkpoint, parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.dashboard.search_listener import SearchTeller
from fanfold.pipeline.evaluation import test
from fanfold.pipeline.events import Noticed
from fanfold.pipeline.experiment import PATHS, Experiment, check_agreement
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.pipeline.recording.progress import Terminal
from fanfold.pipeline.recording.recorder import guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.config import SearchConfig
from fanfold.pipeline.search.driver import Candidate, Search
from fanfold.pipeline.search.events import SearchEvent, SearchListener
from fanfold.pipeline.search.params import Value
from fanfold.pipeline.search.progress import SearchProgress
from fanfold.pipeline.search.space import Space
from fanfold.pipeline.search.study import best_trial, count, make_pruner, open_study
from fanfold.pipeline.training import Job, train
from fanfold.tasks.backbones import weights_of
from fanfold.workflows.cli.configuration import decided
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.listeners import Recording, listening, recording_trials
from fanfold.workflows.cli.result import in_words, kind_of_accuracy, run_keys, test_keys, tested_once
from fanfold.workflows.cli.search_options import read_options
from fanfold.workflows.cli.search_space import as_flags, default_space, read_default_space, read_space

Say = Callable[[str], None]  # shows a line

# A search that is started again may change its length, its cluster, and the training and test of the best trial.
FREE = (
    *("search.trials", "search.minutes", "search.workers_per_trial", "search.retrain", "search.space", "cluster."),
    *("evaluation.tasks", "evaluation.other_tasks", *PATHS),
)


@dataclass(frozen=True)
class Request:
    """A search with nothing left open."""

    plan_of: Callable[[Mapping[str, Value]], Experiment]  # a trial's experiment from its parameters; may raise
    base: Experiment  # with the parameters that no space varies
    config: SearchConfig
    space: Space
    directory: Path
    recording: Recording = field(default_factory=Recording)  # of the trials
    performance_report: Path | None = None  # the file of Dask's report
    open_terminal: Callable[[], Terminal] = lambda: Terminal(in_flags)
    told: Sequence[str] = ()  # what the user has to know of the space, a line each

    @property
    def study(self) -> Path:
        return self.directory / "study.db"

    @property
    def best(self) -> RunDirectory:
        """The run directory of the best trial, or of its configuration trained again."""
        return RunDirectory(self.directory / "best")

    @property
    def result(self) -> Path:
        return self.directory / "result.json"

    @property
    def name(self) -> str:
        task = self.base.recipe.task
        return f"{self.base.config['algorithm'].name}-{task.ways}way{task.shots}shot"

    @property
    def rung(self) -> int:
        """Iterations to the first rung at which a trial may be stopped."""
        return self.config.rung or self.base.evaluation.every

    @property
    def as_plan(self) -> Experiment:
        """The base with the search's settings and space in its configuration."""
        space = {dimension.key: _words(dimension.values, dimension.when) for dimension in self.space.dimensions}
        return replace(self.base, config={"search": self.config, "space": space, **self.base.config})

    def trial(self, number: int) -> RunDirectory:
        """A trial's run directory."""
        return RunDirectory(self.directory / "trials" / f"{number:04}")

    def plan(self, params: Mapping[str, Value]) -> Experiment:
        """The experiment of a trial's parameters.

        Raises:
            FanfoldError: They don't fit together.
        """
        return replace(self.plan_of(params), note=self.base.note)


def request_of(argv: Sequence[str]) -> Request:
    """The search that the arguments ask for.

    Raises:
        FanfoldError: It is not possible, or differs from the search in its directory.
    """
    options = read_options(argv)
    base = decided(options)

    def plan_of(params: Mapping[str, Value]) -> Experiment:
        given = read_options([*argv, *as_flags(params)])
        given.dataset = base.config["dataset"]
        return decided(given)

    directory = Path(options.run or default_directory(base))
    request = Request(plan_of, base, options.search, Space(()), directory, options.record, options.performance_report)
    return with_space(request, Path(options.search.space) if options.search.space else None)


def default_directory(base: Experiment) -> str:
    """The directory of a search that names none: always the same, so that the same command goes on."""
    task = base.recipe.task
    return f"runs/search-{base.config['algorithm'].name.replace(':', '-')}-{task.ways}way{task.shots}shot"


def with_space(request: Request, source: Path | Mapping[str, Any] | None) -> Request:
    """A search with its space: that of a file, of a mapping by dotted keys, or by default the algorithm's own.

    Raises:
        FanfoldError: The search is not possible, or differs from the one in its directory.
    """
    config, base = request.config, request.base
    meta, every = base.recipe.meta, base.evaluation.every
    if meta.iterations is None:
        raise FanfoldError("A search needs trials of one length: give `meta.iterations`.")
    if request.rung % every:
        raise FanfoldError(
            f"`search.rung` must be a multiple of `evaluation.every` ({every}), as trials are judged then, not "
            f"{config.rung}."
        )
    if config.pruner != "none" and request.rung >= meta.iterations:
        raise FanfoldError(
            f"There is no rung before the end: lower `evaluation.every` ({every}) or `search.rung`, raise "
            f"`meta.iterations` ({meta.iterations}), or take `search.pruner=none`."
        )
    chosen = {section: type(base.config[section]) for section in ("algorithm", "model")}
    told: list[str] = []
    if source is not None:
        space = read_space(source, chosen, request.plan)
    else:
        space, told = read_default_space(default_space(base.config["algorithm"].name), chosen, request.plan)
    if config.sampler == "grid" and space.points() is None:
        open_ranges = ", ".join(dimension.key for dimension in space.dimensions if dimension.grid is None)
        raise FanfoldError(f"A grid needs points: give {open_ranges} a `step` or `choices`.")
    request = replace(request, space=space, told=told)
    saved = request.directory / "search.yaml"
    if saved.exists():
        check_agreement(request.as_plan, saved, FREE, f"The search in {request.directory}")
    elif (request.directory / "config.yaml").exists():
        raise FanfoldError(f"{request.directory} holds a training run: name another directory with `run`.")
    return request


def carry_out(request: Request, cluster: Cluster, say: Say) -> dict[str, Any]:
    """Search to the end, test the best, and report; `say` shows a line. Returns the result, as it is kept.

    Raises:
        FanfoldError: Another search has the directory open, no trial has finished, or the cluster is gone.
    """
    from fanfold.workflows.reporting.search import table, write_report  # only here: drawing libraries take long

    with open_request(request) as study:
        config, meta = request.config, request.base.recipe.meta
        say(f"search: {request.directory} ({counted(cluster.workers, 'worker')}, {cluster.hardware})")
        say(f"{config.trials} trials of {meta.iterations:,} iterations: {config.sampler}, pruned by {config.pruner}")
        if meta.minutes is not None:
            say(f"trials also end after {meta.minutes:g} minutes, at an iteration that depends on the machine")
        for line in request.told:
            say(line)
        if before := count(study).all:
            say(f"goes on from {before} trials")
        say(f"accuracies are {kind_of_accuracy(request.base.recipe)}")
        seconds = shown(request, study, cluster)
        say(table(study))
        result = test_best(request, study, cluster.part("search", "best"), seconds)
        write_report(request.directory, study, result)
        say(in_words(result))
        say(
            f"trial {result['trial']} did best of {result['trials']} on validation classes, with "
            f"{100 * result['trial_validation_accuracy']:.2f} % "
            f"({result['pruned']} pruned, {result['failed']} failed)"
        )
        say(f"written to {request.directory}: report.html, its pictures as PNG, result.json")
        return result


@contextmanager
def open_request(request: Request) -> Iterator[optuna.Study]:
    """The study of a search, in its directory.

    Raises:
        FanfoldError: Another search has it open, or it can't be read or written.
    """
    iterations = request.base.recipe.meta.iterations
    assert iterations is not None
    try:
        request.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FanfoldError(f"The directory {request.directory} can't be made ({error.strerror}).") from error
    with open_study(request.study, request.name, make_pruner(request.config, request.rung, iterations)) as study:
        write_bytes(request.directory / "search.yaml", request.as_plan.yaml.encode())
        yield study


def search(request: Request, study: optuna.Study, cluster: Cluster, tell: SearchListener = lambda _: None) -> float:
    """Search to the end, and tell the events. Returns the seconds of searching so far, without interruptions."""

    def make(params: Mapping[str, Value]) -> Candidate:
        plan = request.plan(params)
        return Candidate(Job(replace(plan.recipe, device=cluster.device), plan.evaluation, plan.note), plan.yaml)

    trials, seed = request.directory / "trials", request.base.recipe.seed
    driver = Search(cluster, study, request.space, request.config, seed, make, trials, tell)
    driver.run()
    return driver.seconds


def _words(values: optuna.distributions.BaseDistribution, when: Any) -> dict[str, Any]:
    """A dimension as plain values."""
    plain: dict[str, Any] = json.loads(optuna.distributions.distribution_to_json(values))["attributes"]
    return {**plain, **({"when": {key: list(wanted) for key, wanted in when.items()}} if when else {})}


def shown(request: Request, study: optuna.Study, cluster: Cluster) -> float:
    """Search to the end, and show it on the terminal."""
    best = best_trial(study)
    known = None if best is None else (best.value or 0.0, best.number)
    with request.open_terminal() as terminal:
        progress = SearchProgress(terminal, request.config.trials, count(study), known)
        plan = request.as_plan
        page = SearchTeller(cluster.client, as_text(request.directory.name), plan.flat, request.config.trials)

        def notice(text: str) -> None:
            progress(Noticed(text))

        with (
            guarded(page, "the dashboard's page", notice) as told,
            recording_trials(plan, request.directory, request.recording, notice) as recorders,
        ):
            listeners: list[SearchListener] = [progress, told, *recorders]

            def tell(event: SearchEvent) -> None:
                for listener in listeners:
                    listener(event)

            seconds = search(request, study, cluster, tell)
        terminal.say(progress.summary)
    return seconds


def test_best(request: Request, study: optuna.Study, cluster: Cluster, seconds: float) -> dict[str, Any]:
    """Take the best trial, or train its configuration again, and test it unless it was tested before.

    Raises:
        RunError: No trial has finished.
    """
    best, counts = best_trial(study), count(study)
    if best is None:
        reasons = [trial.user_attrs["reason"] for trial in study.get_trials() if "reason" in trial.user_attrs]
        why = f"; the last one failed: {reasons[-1]}" if reasons else ""
        raise RunError(f"No trial has finished: go on with more `search.minutes` or `search.trials`{why}")
    plan = request.plan(dict(best.params))
    last = _take(request, plan, best, cluster)
    request.best.keep_weights(weights_of(plan.recipe.model))
    recipe, retrained = replace(plan.recipe, device=cluster.device), request.config.retrain is not None
    of_best = {
        **_test(request, plan, recipe, last, cluster),
        **run_keys(last, recipe, cluster),
        "workers": cluster.workers if retrained else request.config.workers_per_trial,
    }
    write_json(request.best.result, of_best)
    result = {
        **of_best,
        "trial": best.number,
        "params": best.params,
        "retrained": retrained,
        "chosen_by": "validation accuracy",
        "trial_validation_accuracy": best.value,
        "trials": counts.all,
        "finished": counts.finished,
        "pruned": counts.pruned,
        "failed": counts.failed,
        "sampler": request.config.sampler,
        "pruner": request.config.pruner,
        "search_seconds": round(seconds, 3),
    }
    write_json(request.result, result)
    return result


def _test(request: Request, plan: Experiment, recipe: Recipe, last: Checkpoint, cluster: Cluster) -> dict[str, Any]:
    """The test's keys, from the test of before where that is the same."""
    sha256 = parameters_sha256(last.best)

    def measure(before: dict[str, Any]) -> dict[str, Any]:
        tests = test(cluster, recipe, last.best, plan.evaluation)
        keys = test_keys(plan, tests, last.best_iteration, sha256)
        # A search that goes on looks at test classes again whenever another trial has won: it counts how often.
        return {**keys, "tests": before.get("tests", 0) + 1}

    return tested_once(request.directory / "test.json", plan, sha256, measure)


def _take(request: Request, plan: Experiment, best: FrozenTrial, cluster: Cluster) -> Checkpoint:
    """The last checkpoint of the best trial, or of its configuration trained again."""
    directory, retrain = request.best, request.config.retrain
    if retrain is not None:
        meta = replace(plan.recipe.meta, iterations=retrain, minutes=None)
        plan = replace(plan, recipe=replace(plan.recipe, meta=meta), config={**plan.config, "meta": meta})
    if directory.config.exists() and read_configuration(directory.config) != yaml_text.load(plan.yaml):
        shutil.rmtree(directory.path)  # of the earlier best trial
    if retrain is None:
        if not directory.config.exists():
            partial = directory.path.with_name("best.partial")
            shutil.rmtree(partial, ignore_errors=True)
            # TensorBoard shows the trial already.
            shutil.copytree(request.trial(best.number).path, partial, ignore=shutil.ignore_patterns("tensorboard"))
            partial.rename(directory.path)
        return newest_checkpoint(directory.last)[0]
    if not directory.config.exists():
        directory.create(plan.yaml)
    with (
        request.open_terminal() as terminal,
        listening(plan, cluster, directory, terminal, "best", request.recording) as listeners,
    ):
        recipe = replace(plan.recipe, device=cluster.device)
        return train(cluster, recipe, plan.evaluation, directory, listeners, plan.note)
