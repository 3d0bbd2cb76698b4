"""Bad links: a forwarder between the scheduler and all others, and a cut one between two hosts."""

from collections.abc import Callable
from functools import partial

from benchmarks.faults.case import Case
from benchmarks.faults.forwarder import Forwarder
from benchmarks.faults.trial import LONG, REDUCTIONS, Trial, WrongError, joining, stage_of
from benchmarks.faults.two_hosts import TwoHosts, cut, hosts

STALLED, CUTS, DELAY = 8.0, (5.0, 40.0), 0.05  # seconds


def forwarded(bring: Callable[[Forwarder], None], trial: Trial, reference: str) -> str:
    """All that goes between the scheduler and driver or workers goes through a forwarder."""
    stage = stage_of(trial)
    with Forwarder(stage.port) as link:
        trial.address = stage.joins = f"tcp://127.0.0.1:{link.port}"
        with joining(trial, stage):
            trial.disturb(lambda _: bring(link))
            return trial.finish(reference, most=3)


def slow(link: Forwarder) -> None:
    """Delay everything from now on."""
    link.delay = DELAY


def reset(link: Forwarder) -> None:
    """Reset all connections."""
    link.reset()
    if not link.resets:
        raise WrongError("there were no connections")


def cut_between_hosts(seconds: float, trial: Trial, reference: str) -> str:
    """The link between two hosts, with a worker on each, is cut for some seconds."""
    near = stage_of(trial)
    with hosts(), joining(trial, TwoHosts(near.folder, environment=near.environment)):
        trial.disturb(lambda _: cut(seconds))
        return trial.finish(reference, most=3)


FORWARDED: dict[str, Callable[[Forwarder], None]] = {
    f"scheduler's connections slow: {1000 * DELAY:.0f} ms each way": slow,
    f"scheduler's connections stalled for {STALLED:g} s": lambda link: link.stall(STALLED),
    "scheduler's connections reset": reset,
}
CASES = (
    *(
        Case(fault, reduction, partial(forwarded, bring), LONG)
        for fault, bring in FORWARDED.items()
        for reduction in REDUCTIONS
    ),
    *(
        Case(f"link between two hosts cut for {s:g} s", reduction, partial(cut_between_hosts, s), LONG, root=True)
        for s in CUTS
        for reduction in REDUCTIONS
    ),
)
