"""Dask's report of a command's work on its cluster, as one HTML file that opens without a network."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from fanfold.data.advice import one_line
from fanfold.pipeline.files import check_writable

if TYPE_CHECKING:
    from fanfold.pipeline.cluster.cluster import Cluster


def add_performance_flag(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--performance_report", type=Path | None, default=None, help="an HTML file for Dask's own report of the run"
    )


def check_performance_file(path: Path | None) -> None:
    """Raise FanfoldError if the report could not be written at the end."""
    if path is not None:
        check_writable("performance report", path)


@contextmanager
def performance_reported(cluster: "Cluster", path: Path | None) -> Iterator[None]:
    """Report the cluster's work in the block, also if that fails. A report that can't be written costs only a line."""
    if path is None:
        yield
        return
    from distributed import performance_report  # only here: Dask takes its time to import

    # The report shows the caller's code; the last frames are those of context managers.
    report = performance_report(filename=str(path), mode="inline", stacklevel=3)
    with cluster.client.as_current():
        report.__enter__()
        try:
            yield
        finally:
            try:
                report.__exit__(None, None, None)
                print(f"performance report: {path}")
            except Exception as error:  # the scheduler may be gone, or the disk full
                print(f"the performance report {path} can't be written ({one_line(error)})", file=sys.stderr)
