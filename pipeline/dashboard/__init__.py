"""A page of Fanfold's own on Dask's dashboard, and metrics for Prometheus.

A run's driver puts both onto the scheduler it finds. A scheduler started with

    dask scheduler --preload pipeline.dashboard

has them before any run. Nothing that a scheduler needs for them imports PyTorch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler


def dask_setup(scheduler: "Scheduler") -> None:
    """Called by Dask's `--preload`."""
    from pipeline.dashboard.plugin import install  # only here: workers import the package for its messages alone

    install(scheduler)
