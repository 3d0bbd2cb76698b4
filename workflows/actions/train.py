"""Meta-train, test the parameters that did best on validation classes, and keep the result."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from fanfold.data.advice import counted, one_line
from fanfold.pipeline.checkpoint import parameters_sha256
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import not_learnt, test
from fanfold.pipeline.events import Event, MetaTested, ReductionPicked
from fanfold.pipeline.experiment import Experiment, check_agreement, resume_free
from fanfold.pipeline.files import write_json
from fanfold.pipeline.initial import read_initial
from fanfold.pipeline.recording.progress import Terminal
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.tally import Tested
from fanfold.pipeline.training import train
from fanfold.tasks.backbones import weights_of
from fanfold.tasks.episodes import EpisodeShape
from fanfold.workflows.cli.listeners import Recording, listening
from fanfold.workflows.cli.result import in_words, kind_of_accuracy, run_keys, test_keys
from fanfold.workflows.cli.trust import leave_for

Say = Callable[[str], None]  # shows a line


@dataclass(frozen=True)
class Training:
    """A training that was asked for, with nothing left open."""

    plan: Experiment
    directory: RunDirectory
    resumed: bool = False  # it goes on with the run in the directory
    recording: Recording = field(default_factory=Recording)
    report: bool = True  # whether to report on the run in pictures at its end

    def __post_init__(self) -> None:
        """Check the directory.

        Raises:
            FanfoldError: It holds a run, which this one isn't to resume; or the run to resume differs, or another
                process writes it; or the network to start from can't be read.
        """
        if self.resumed:
            free = resume_free(self.plan.recipe.meta)
            check_agreement(self.plan, self.directory.config, free, "A resumed run")
            self.directory.check_unwritten()  # before anything is started
        else:
            self.directory.check_free()
            if self.plan.recipe.meta.initial is not None:
                read_initial(Path(self.plan.recipe.meta.initial))


def new_directory(algorithm: str, task: EpisodeShape) -> RunDirectory:
    """The run directory where none is named, after what is trained, and when."""
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(f"runs/{algorithm}-{task.ways}way{task.shots}shot-{now}")
    others = (path.with_name(f"{path.name}-{number}") for number in count(2))  # begun in the same second
    return RunDirectory(path if not path.exists() else next(other for other in others if not other.exists()))


def carry_out(training: Training, cluster: Cluster, terminal: Terminal, say: Say) -> dict[str, Any]:
    """Train to the end, test, and report; `say` shows a line. Returns the result, as it is kept in the run directory.

    Raises:
        FanfoldError: The training fails, or a file can't be written; a report that fails costs no more than a line.
    """
    with training.directory.writing(training.plan.yaml, resumed=training.resumed):
        training.directory.keep_weights(weights_of(training.plan.recipe.model))
        result, tested = _train_and_test(training, cluster, terminal, say)
        say(in_words(result))
        if line := not_learnt(training.plan.recipe, tested):
            say(line)
        if training.report:
            say(_report(training, cluster, tested))
    return result


def _train_and_test(
    training: Training, cluster: Cluster, terminal: Terminal, say: Say
) -> tuple[dict[str, Any], Tested]:
    """Train to the end, test the best parameters, and write the result. Returns it, and the published test."""
    plan, directory = training.plan, training.directory
    say(f"run: {directory.path} ({counted(cluster.workers, 'worker')}, {cluster.hardware})")
    say(f"accuracies are {kind_of_accuracy(plan.recipe)}")
    cluster = cluster.part(directory.name)
    recipe = replace(plan.recipe, device=cluster.device)
    picked: list[str] = []

    def remember(event: Event) -> None:
        if isinstance(event, ReductionPicked):
            picked.append(event.reduction)

    with terminal, listening(plan, cluster, directory, terminal, recording=training.recording) as listeners:
        last = train(cluster, recipe, plan.evaluation, directory, [*listeners, remember], plan.note)
        tests = test(cluster, recipe, last.best, plan.evaluation)
        for listener in listeners:
            listener(MetaTested(tuple(tests)))
        result = {
            **test_keys(plan, tests, last.best_iteration, parameters_sha256(last.best)),
            **run_keys(last, recipe, cluster),
            "reduction": picked[-1] if picked else None,
        }
        write_json(directory.result, result)
    return result, tests[0]


def _report(training: Training, cluster: Cluster, tested: Tested) -> str:
    """Report on a finished run, and return a line about the report; one that fails costs no more than that line."""
    from fanfold.workflows.actions.report import report  # imported here: drawing libraries take long to import
    from fanfold.workflows.reporting.run import read_run

    path = training.directory.path
    try:
        return f"report: {report(read_run(path), cluster, training.plan.recipe, tested=tested)}"
    except Exception as error:
        again = shlex.join(("report", f"run={path}", *leave_for(training.plan.config)))
        return f"no report: {one_line(error)} (`{again}` tries again)"
