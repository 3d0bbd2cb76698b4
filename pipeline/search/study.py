"""The study of a search: Optuna's record of its trials, in a file that survives whatever happens to the search.

The file is of SQLite: when a call returns, its results are on the disk, whenever the process is killed. Only the
search's driver writes it, under a lock that ends with the process. So a trial in the state `running`, when a driver
opens the study, was left by an earlier driver, and no heartbeats are needed.

A draw depends on the seed, the trial's number and the dimension's place in the space, never on earlier draws of a
sampler: a study that was stopped and started again draws the same values as one that was not.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.lock import only_writer
from fanfold.pipeline.search.config import SearchConfig
from fanfold.pipeline.search.params import Params
from fanfold.pipeline.search.space import Space

STARTUP = 5  # trials that have ended when the median pruner begins


@contextmanager
def open_study(path: Path, name: str, pruner: BasePruner) -> Iterator[optuna.Study]:
    """Open the study in a file, or make it; nobody else may open it meanwhile.

    Hyperband's brackets depend on the study's name.

    Raises:
        FanfoldError: Another search has it open, or it can't be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with only_writer(path.with_suffix(".lock"), f"The study {path}"):
        try:
            storage = RDBStorage(str(URL.create("sqlite", database=str(path.resolve()))))
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
    """A sampler by name."""
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
    """Every point of the space once, with its conditions, in an order drawn from the seed."""

    def after_trial(self, *_: Any) -> None:
        """Do nothing: Optuna would end `Study.optimize` here, which isn't used. The search counts the points."""


def make_pruner(config: SearchConfig, rung: int, iterations: int) -> BasePruner:
    """A pruner by name, given iterations to the first rung and of a whole trial."""
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
    """A trial's parameters; missing ones are drawn and kept in the study."""
    params: Params = {}
    known, asked = trial.params, False
    for place, dimension in enumerate(space.dimensions):
        key, values = dimension.key, dimension.values
        if not dimension.counts(params):
            continue
        if key not in known and not asked:
            trial.study.sampler = make_sampler(sampler, _seed(seed, trial.number, 0))
            asked = trial.relative_params is not None  # drawn here, so that they never depend on another place
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
    """The trials that an earlier driver left running."""
    found = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [Trial(study, trial._trial_id) for trial in found]


@dataclass(frozen=True)
class Counts:
    """Numbers of trials by their states."""

    finished: int
    pruned: int
    failed: int
    running: int

    @property
    def ended(self) -> int:
        """Trials that have ended."""
        return self.finished + self.pruned + self.failed

    @property
    def all(self) -> int:
        """All trials."""
        return self.ended + self.running


def count(study: optuna.Study) -> Counts:
    """Count a study's trials by their states."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    wanted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    return Counts(*(states.count(state) for state in wanted))


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The first finished trial of the highest validation accuracy; None while there is none."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(finished, key=lambda trial: trial.value or 0.0, default=None)
