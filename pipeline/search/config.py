"""What a search should be. Needs no Optuna to be read."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from fanfold.data.errors import FanfoldError, check_at_least


@dataclass(frozen=True)
class SearchConfig:
    """The settings of a search.

    Args:
        space: A YAML file of configuration keys and their values; by default the algorithm's own space.
        trials: How many settings are tried; fewer where `grid` has fewer.
        minutes: Length of the search in minutes, without interruptions. Running trials then end at their next rung, and
            go on when the search is started again with more minutes. None for no limit.
        sampler: Draws the settings: `tpe`, `random`, `grid`, or `cmaes` (for numbers; choices are drawn at random).
        pruner: Stops poor trials at rungs: `asha` (successive halving), `hyperband`, `median`, or `none`.
        rung: Iterations to the first rung at which a trial may be stopped; by default those between validations.
        factor: One of this many trials at a rung goes on, for this many times the iterations (`asha`, `hyperband`).
        workers_per_trial: How many workers compute a trial's meta-batches.
        retrain: Iterations to train the best setting again, over all workers, before the test. By default the trial's
            own parameters are tested, as training it again would give the same ones.
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
