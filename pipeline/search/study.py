"""The study of a search: Optuna's record of its trials, in a file that survives whatever happens to the search.

A SQLite file: what was told is on the disk, whole, when the call returns, whenever the process is killed. The search's
driver alone writes it, and a lock that ends with its process keeps a second one out; so a trial that the study calls
running, when a driver opens it, is one that an earlier driver left, and no heartbeat is needed to tell.

Every draw depends on the seed, the trial's number, and the place of the dimension in the space, never on what a
sampler drew before: a study that was stopped and started again goes on with the draws that it would have gone on with.
"""

import fcntl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from fanfold.data.errors import FanfoldError, check_at_least
from fanfold.pipeline.search.space import Space, Value

STARTUP = 5  # trials that end before the median pruner begins

Params = dict[str, Value]


@dataclass(frozen=True)
class SearchConfig:
    """How a configuration is searched for.

    Args:
        space: A YAML file: which configuration keys, and what values each may take; default the algorithm's own.
        trials: How many settings are tried; fewer where `grid` has fewer.
        minutes: Length of the search in minutes, stops not counted; trials under way then end at their next rung, and
            go on when the search is started again with more. None for as long as the trials take.
        sampler: What draws settings: `tpe`, `random`, `grid`, `cmaes` (for numbers; choices are drawn at random).
        pruner: What stops poor trials at rungs: `asha` (successive halving), `hyperband`, `median`, or `none`.
        rung: Iterations to the first rung at which a trial may be stopped; default those between validations.
        factor: Of so many trials at a rung one goes on, for so many times the iterations (`asha`, `hyperband`).
        workers_per_trial: Workers that a trial's meta-batches are spread over.
        retrain: Iterations to train the best setting with anew, over all workers, before the test; default none: it is
            tested as the trial left it, as training it again would give the very same parameters.
    """

    space: str | None = None
    trials: int = 32
    minutes: float | None = None
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    pruner: Literal["asha", "hyperband", "median", "none"] = "asha"
    rung: int | None = None
    factor: int = 3
    workers_per_trial: int = 1
    retrain: int | None = None

    def __post_init__(self) -> None:
        check_at_least("search", self, trials=1, rung=1, factor=2, workers_per_trial=1, retrain=1)
        if self.minutes is not None and not 0 < self.minutes < inf:
            raise FanfoldError(f"`search.minutes` must be above 0, not {self.minutes}.")


@contextmanager
def open_study(path: Path, name: str, pruner: BasePruner) -> Iterator[optuna.Study]:
    """The study in a file, made where there is none yet; nobody else may open it meanwhile.

    Args:
        path: The SQLite file.
        name: Its name in there, on which Hyperband's brackets depend.
        pruner: Its pruner.

    Raises:
        FanfoldError: Another search is at work on it, or it can't be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        opened = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise FanfoldError(f"The study {path} can't be written ({error.strerror}).") from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FanfoldError(
                f"Another search is at work in {path.parent}: name another directory with `run`."
            ) from error
        try:
            storage = RDBStorage(f"sqlite:///{path.resolve()}")
        except Exception as error:  # SQLAlchemy's, and Optuna's own
            raise FanfoldError(
                f"The study {path} can't be opened ({type(error).__name__}): is it another file?"
            ) from error
        try:
            yield optuna.create_study(
                storage=storage, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True
            )
        finally:
            storage.engine.dispose()


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(seed=seed)
            case "random":
                return RandomSampler(seed=seed)
            case "cmaes":
                return CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "grid":
                return _Grid(seed=seed)
    raise ValueError(name)


class _Grid(BruteForceSampler):
    """Every point of the space once, conditions and all, in an order drawn from the seed."""

    def after_trial(self, *_: Any) -> None:
        """Nothing: it would end `Study.optimize`, which isn't used here. The search counts the points."""


def make_pruner(config: SearchConfig, rung: int, iterations: int) -> BasePruner:
    """A pruner, by name.

    Args:
        config: The search.
        rung: Iterations to the first rung.
        iterations: Iterations of a whole trial.
    """
    match config.pruner:
        case "asha":
            return SuccessiveHalvingPruner(min_resource=rung, reduction_factor=config.factor)
        case "hyperband":
            return HyperbandPruner(min_resource=rung, max_resource=iterations, reduction_factor=config.factor)
        case "median":
            return MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=rung)
        case "none":
            return NopPruner()


def draw(trial: Trial, space: Space, sampler: str, seed: int) -> Params:
    """A trial's parameters: those that it has, and those that it lacks drawn and kept.

    Args:
        trial: The trial.
        space: What is searched.
        sampler: The sampler's name.
        seed: The search's seed.
    """
    params: Params = {}
    known, together = trial.params, False
    for place, dimension in enumerate(space.dimensions):
        key, values = dimension.key, dimension.values
        if not dimension.counts(params):
            continue
        if key not in known and not together:
            trial.study.sampler = make_sampler(sampler, _seed(seed, trial.number, 0))
            together = trial.relative_params is not None  # asked for here, so that it never depends on another place
        trial.study.sampler = make_sampler(sampler, _seed(seed, trial.number, place + 1))
        if isinstance(values, CategoricalDistribution):
            params[key] = trial.suggest_categorical(key, values.choices)
        elif isinstance(values, IntDistribution):
            params[key] = trial.suggest_int(key, values.low, values.high, step=values.step, log=values.log)
        elif isinstance(values, FloatDistribution):
            params[key] = trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)
    return params


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def left_running(study: optuna.Study) -> list[Trial]:
    """The trials that an earlier driver left running, to go on with."""
    found = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [Trial(study, trial._trial_id) for trial in found]


@dataclass(frozen=True)
class Counts:
    """How many trials there are, by what became of them."""

    finished: int
    pruned: int
    failed: int
    running: int

    @property
    def ended(self) -> int:
        """Those that nothing more will become of."""
        return self.finished + self.pruned + self.failed

    @property
    def all(self) -> int:
        """All."""
        return self.ended + self.running


def count(study: optuna.Study) -> Counts:
    """Count a study's trials."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    wanted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    return Counts(*(states.count(state) for state in wanted))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The finished trial of the highest validation accuracy, the first of several; None while there is none."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(finished, key=lambda trial: trial.value or 0.0, default=None)
