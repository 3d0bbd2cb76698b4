"""A model of what a meta-iteration takes, fitted to what was measured.

    seconds = chunk + c + a · tasks + b · log₂ workers + m · messages + bytes / bandwidth

with `chunk` the time that the chunks of the busiest worker take, and coefficients of nought or more. What the
scheduler's process and the workers' processes use of the CPU is fitted in the same way, without a chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import nnls

from fanfold.workflows.benchmark.scale.costs import Setup, Work, all_work, busiest_work
from fanfold.workflows.benchmark.scale.simulation import Reduction

Term = Literal["iteration", "scheduled", "turns", "doublings", "messages", "bytes"]

# What may cost time; of the graph, what workers take up is what the scheduler hands out.
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
    """Coefficients, and how well they fit.

    Args:
        coefficients: Seconds a unit of each term.
        r2: The share of the variance that they explain.
        rms: Root of the mean square of the errors relative to what was measured, the chunks' time included.
        worst: The largest of them.
    """

    coefficients: Mapping[Term, float]
    r2: float
    rms: float
    worst: float

    def __call__(self, work: Work) -> float:
        """Seconds of some work."""
        return sum(value * amount(work, term) for term, value in self.coefficients.items())


@dataclass(frozen=True)
class CostModel:
    """What was fitted for a reduction.

    Args:
        seconds: Of a meta-iteration beyond its chunks, all processes on the machine that was measured.
        scheduler: CPU of the scheduler.
        workers: CPU of all workers together.
    """

    seconds: Fit
    scheduler: Fit
    workers: Fit

    def fitted(self, setup: Setup) -> float:
        """Seconds a meta-iteration, as fitted: the machine that was measured carries all processes."""
        return setup.computing + self.seconds(all_work(setup))

    def best(self, setup: Setup) -> float:
        """Seconds a meta-iteration, if every process has a core of its own, on a network like the loopback.

        Scheduler and busiest worker take turns; nothing else holds anyone up.
        """
        return setup.computing + self.scheduler(all_work(setup)) + self.workers(busiest_work(setup))

    def worst(self, setup: Setup) -> float:
        """Seconds a meta-iteration, as fitted, unless even at best it takes more."""
        return max(self.fitted(setup), self.best(setup))


def amount(work: Work, term: Term) -> float:
    """How much of a term there is."""
    return 1.0 if term == "iteration" else float(getattr(work, term))


def fit(terms: Sequence[Term], works: Sequence[Work], costs: Sequence[float], totals: Sequence[float]) -> Fit:
    """Least squares of relative errors, with coefficients of nought or more.

    Args:
        terms: What may cost.
        works: What was done, measurement by measurement.
        costs: Seconds that it cost.
        totals: Seconds that errors are relative to.
    """
    amounts = np.array([[amount(work, term) for term in terms] for work in works])
    cost, total = np.asarray(costs, float), np.asarray(totals, float)
    weighted = amounts / total[:, None]
    scale = np.linalg.norm(weighted, axis=0)  # bytes are many, doublings few
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
        setups: What was measured.
        measured: Of each, an iteration's `seconds`, and `scheduler` and `workers`: seconds of CPU.
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
    """What errors of a CPU's time are relative to: the system counts it in hundredths, and may have counted none."""
    return [max(value, 1e-4) for value in seconds]
