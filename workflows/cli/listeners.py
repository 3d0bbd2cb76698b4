"""The listeners to a run or search. The pipeline knows none of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanfold.data import extras
from fanfold.data.advice import as_text
from fanfold.pipeline import yaml_text
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import flatten_keys
from fanfold.pipeline.dashboard.listener import RunTeller
from fanfold.pipeline.events import Event, Listener, Noticed
from fanfold.pipeline.experiment import PATHS, Experiment
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.mlflow import MLflow
from fanfold.pipeline.recording.progress import RunProgress, Terminal
from fanfold.pipeline.recording.recorder import BackgroundRecorder, Recorder, guarded
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.recording.wandb import Wandb
from fanfold.pipeline.search.events import SearchListener, TrialBegan
from fanfold.pipeline.search.recording import TrialRecords


@dataclass(frozen=True)
class Recording:
    """Further records of a run.

    Args:
        tensorboard: Whether to write event files for TensorBoard, to `tensorboard` in the run directory or in each
            trial's; without the extra `tensorboard`, a run says so and goes on.
        mlflow: MLflow's address: a server (`http://…`), or a file (`sqlite:///mlflow.db`).
        wandb: The project on Weights & Biases, or `entity/project`; with WANDB_MODE=offline the run is kept in the run
            directory alone.
    """

    tensorboard: bool = True
    mlflow: str | None = None
    wandb: str | None = None

    def __post_init__(self) -> None:
        for name in ("mlflow", "wandb"):
            if getattr(self, name) is not None:
                extras.need(name, f"`record.{name}`")


@contextmanager
def listening(
    plan: Experiment,
    cluster: Cluster,
    directory: RunDirectory,
    terminal: Terminal,
    name: str | None = None,
    recording: Recording = Recording(),
) -> Iterator[list[Listener]]:
    """The listeners to a run, closed at its end; `name` tells the run apart on a terminal that shows several.

    Raises:
        FanfoldError: MLflow or Weights & Biases can't be reached.
    """
    progress = RunProgress(terminal, name)
    settings = plan.flat
    page = RunTeller(cluster.client, directory.name, plan.recipe, settings)

    def notice(text: str) -> None:
        progress(Noticed(text))

    with ExitStack() as stack:
        told = stack.enter_context(guarded(page, "the dashboard's page", notice))
        listeners: list[Listener] = [directory.log, progress, told]
        if _writes_events(recording, notice):
            board = _tensorboard(directory, plan.recipe, settings)
            listeners.append(stack.enter_context(guarded(board, "TensorBoard", notice)))
        if recording.mlflow is not None:
            mlflow = MLflow(recording.mlflow, directory.path, plan.recipe, settings)
            # Sending waits for the server; the run must not.
            listeners.append(stack.enter_context(guarded(BackgroundRecorder(mlflow, "mlflow"), "MLflow", notice)))
        if recording.wandb is not None:
            wandb = Wandb(recording.wandb, directory.path, plan.recipe, settings)
            listeners.append(stack.enter_context(guarded(wandb, "Weights & Biases", notice)))
        yield listeners


@contextmanager
def recording_trials(
    plan: Experiment, directory: Path, recording: Recording, notice: Callable[[str], None]
) -> Iterator[list[SearchListener]]:
    """The recorders of a search's trials, each as a run of its own, closed at the search's end.

    Raises:
        FanfoldError: MLflow or Weights & Biases can't be reached.
    """
    with ExitStack() as stack:
        listeners: list[SearchListener] = []
        if _writes_events(recording, notice):
            boards = TrialRecords(lambda trial: _tensorboard(trial.directory, trial.job.recipe, _settings(trial)))
            listeners.append(stack.enter_context(guarded(boards, "TensorBoard", notice)))
        if (uri := recording.mlflow) is not None:
            search = MLflow(uri, directory, plan.recipe, plan.flat)
            stack.enter_context(guarded(search, "MLflow", notice))  # the parent of its trials' runs
            runs = TrialRecords(
                lambda trial: MLflow(uri, trial.directory.path, trial.job.recipe, _settings(trial), search.run)
            )
            # Opening and ending a run wait for the server too.
            listeners.append(stack.enter_context(guarded(BackgroundRecorder(runs, "mlflow"), "MLflow", notice)))
        if (project := recording.wandb) is not None:
            records = TrialRecords(
                lambda trial: Wandb(
                    project, trial.directory.path, trial.job.recipe, _settings(trial), group=as_text(directory.name)
                )
            )
            listeners.append(stack.enter_context(guarded(records, "Weights & Biases", notice)))
        yield listeners


def _settings(trial: TrialBegan) -> dict[str, Any]:
    """A trial's resolved configuration by dotted keys."""
    return flatten_keys(yaml_text.load(trial.config))


def _writes_events(recording: Recording, notice: Callable[[str], None]) -> bool:
    """Whether event files for TensorBoard are wanted and can be written."""
    if recording.tensorboard and (absent := extras.advice("tensorboard")):
        notice(f"no event files for TensorBoard: {absent}")
        return False
    return recording.tensorboard


def _tensorboard(directory: RunDirectory, recipe: Recipe, settings: Mapping[str, Any]) -> Recorder[Event]:
    """The recorder of a run's event files, in its run directory."""
    from fanfold.pipeline.recording.tensorboard import TensorBoard  # only here: it is an extra

    # Runs are not compared by their clusters or paths.
    compared = {key: value for key, value in settings.items() if not key.startswith(("cluster.", *PATHS))}
    return TensorBoard(directory.path / "tensorboard", recipe, compared, directory.result.exists())
