"""A page of Fanfold's own on Dask's dashboard, and metrics for Prometheus.

A run's driver puts both onto the scheduler it finds. A scheduler started with

    dask scheduler --preload fanfold.pipeline.dashboard

has them before any run; in a clone of the repository, `--preload pipeline.dashboard` is the same. Nothing that a
scheduler needs for them imports PyTorch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler


def dask_setup(scheduler: "Scheduler") -> None:
    """Called by Dask's `--preload`."""
    # Only here: a preload names this package, and the page's parts must not be imported before Dask's are.
    from fanfold.pipeline.dashboard.plugin import install

    install(scheduler)
