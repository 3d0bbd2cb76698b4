"""A cost model of a meta-iteration, fitted to measurements.

    seconds = chunk + c + a · tasks + b · log₂ workers + m · messages + bytes / bandwidth

`chunk` is the time of the busiest worker's chunks, and no coefficient is negative. The CPU time of the scheduler and of
the workers is fitted in the same way, without `chunk`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import nnls

from fanfold.workflows.benchmark.scale.costs import Setup, Work, all_work, busiest_work
from fanfold.workflows.benchmark.scale.simulation import Reduction

Term = Literal["iteration", "scheduled", "turns", "doublings", "messages", "bytes"]

# The terms of each cost. In a graph, the workers' units of work are the scheduler's tasks.
TERMS: dict[Reduction, dict[str, tuple[Term, ...]]] = {
    "graph": {
        "seconds": ("iteration", "scheduled", "doublings", "bytes"),
        "scheduler": ("iteration", "scheduled"),
        "workers": ("turns", "bytes"),
    },
    "collective": {
        "seconds": ("iteration", "turns", "doublings", "messages", "bytes"),
        "scheduler": ("iteration", "scheduled"),
        "workers": ("turns", "messages", "bytes"),
    },
}


@dataclass(frozen=True)
class Fit:
    """Fitted coefficients, and the quality of the fit.

    Args:
        coefficients: Seconds per unit of each term.
        r2: The explained share of the variance.
        rms: Root mean square of the errors relative to the measurements, with the chunks' time.
        worst: The largest relative error.
    """

    coefficients: Mapping[Term, float]
    r2: float
    rms: float
    worst: float

    def __call__(self, work: Work) -> float:
        """The seconds of some work."""
        return sum(value * amount(work, term) for term, value in self.coefficients.items())


@dataclass(frozen=True)
class CostModel:
    """The fitted costs of a reduction.

    Args:
        seconds: Seconds of a meta-iteration beyond its chunks, with all processes on the measured machine.
        scheduler: CPU seconds of the scheduler.
        workers: CPU seconds of all workers.
    """

    seconds: Fit
    scheduler: Fit
    workers: Fit

    def fitted(self, setup: Setup) -> float:
        """Seconds of a meta-iteration with all processes on the measured machine."""
        return setup.computing + self.seconds(all_work(setup))

    def best(self, setup: Setup) -> float:
        """Seconds of a meta-iteration with a core for every process, on a network like the loopback interface.

        The scheduler and the busiest worker work one after the other; there are no other delays.
        """
        return setup.computing + self.scheduler(all_work(setup)) + self.workers(busiest_work(setup))

    def worst(self, setup: Setup) -> float:
        """Seconds of a meta-iteration as fitted, or at best if those are more."""
        return max(self.fitted(setup), self.best(setup))


def amount(work: Work, term: Term) -> float:
    """The amount of a term in some work."""
    return 1.0 if term == "iteration" else float(getattr(work, term))


def fit(terms: Sequence[Term], works: Sequence[Work], costs: Sequence[float], totals: Sequence[float]) -> Fit:
    """Least squares of relative errors, with coefficients of at least zero.

    Args:
        terms: The terms of the cost.
        works: The work of each measurement.
        costs: The measured seconds.
        totals: The seconds that errors are relative to.
    """
    amounts = np.array([[amount(work, term) for term in terms] for work in works])
    cost, total = np.asarray(costs, float), np.asarray(totals, float)
    weighted = amounts / total[:, None]
    scale = np.linalg.norm(weighted, axis=0)  # amounts differ by orders of magnitude
    scale[scale == 0] = 1.0
    found, _ = nnls(weighted / scale, cost / total)
    coefficients = found / scale
    errors = amounts @ coefficients - cost
    spread = float(((cost - cost.mean()) ** 2).sum())
    r2 = 1 - float((errors**2).sum()) / spread if spread else float("nan")
    relative = errors / total
    return Fit(
        dict(zip(terms, coefficients.tolist(), strict=True)),
        r2,
        float(np.sqrt((relative**2).mean())),
        float(np.abs(relative).max()),
    )


def fit_model(reduction: Reduction, setups: Sequence[Setup], measured: Sequence[Mapping[str, Any]]) -> CostModel:
    """The model of a reduction.

    Args:
        reduction: The reduction.
        setups: The measured setups.
        measured: For each, `seconds` of an iteration, and CPU seconds of `scheduler` and `workers`.
    """
    works = [all_work(setup) for setup in setups]
    columns = {name: [float(found[name]) for found in measured] for name in ("seconds", "scheduler", "workers")}
    beyond = [seconds - setup.computing for seconds, setup in zip(columns["seconds"], setups, strict=True)]
    terms = TERMS[reduction]
    return CostModel(
        fit(terms["seconds"], works, beyond, columns["seconds"]),
        fit(terms["scheduler"], works, columns["scheduler"], _positive(columns["scheduler"])),
        fit(terms["workers"], works, columns["workers"], _positive(columns["workers"])),
    )


def _positive(seconds: Sequence[float]) -> list[float]:
    """The CPU seconds that errors are relative to: the system counts hundredths, so some may be zero."""
    return [max(value, 1e-4) for value in seconds]
