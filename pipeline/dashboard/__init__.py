"""Fanfold's page on Dask's dashboard, and metrics for Prometheus.

A run's driver adds both to its scheduler. A scheduler started with

    dask scheduler --preload fanfold.pipeline.dashboard

has them before any run; in a clone of the repository, `--preload pipeline.dashboard` does the same. The scheduler's
side imports no PyTorch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Scheduler


def dask_setup(scheduler: "Scheduler") -> None:
    """Called by Dask's `--preload`."""
    # Imported here: a preload imports this package before those of Dask that the page needs.
    from fanfold.pipeline.dashboard.plugin import install

    install(scheduler)
