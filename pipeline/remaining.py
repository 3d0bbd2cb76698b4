"""How much of a run is done, and how long it still takes."""

from fanfold.pipeline.events import TrainingStarted, WindowEnded


def share_done(started: TrainingStarted, window: WindowEnded) -> float:
    """How much of the run is done, 0 to 1: by iterations or by time, whichever is further."""
    by_iterations = _iteration(window) / started.iterations if started.iterations else 0.0
    by_time = window.seconds / started.limit_seconds if started.limit_seconds else 0.0
    return min(max(by_iterations, by_time), 1.0)


def seconds_left(started: TrainingStarted, window: WindowEnded) -> float:
    """Seconds left: at the pace since this start, up to the end that comes first."""
    ends, iteration = [], _iteration(window)
    if started.limit_seconds is not None:
        ends.append(started.limit_seconds - window.seconds)
    if started.iterations is not None and iteration > started.iteration:
        pace = (window.seconds - started.seconds) / (iteration - started.iteration)
        ends.append((started.iterations - iteration) * pace)
    return max(min(ends, default=0.0), 0.0)


def _iteration(window: WindowEnded) -> int:
    return window.records[-1].iteration + 1
