"""The cluster of a command, with Fanfold's page on its dashboard."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from fanfold.pipeline.cluster import cluster as engine
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.dashboard.plugin import offer
from fanfold.workflows.cli.flags import say

if TYPE_CHECKING:
    from fanfold.pipeline.recipe import Recipe


@contextmanager
def open_cluster(config: ClusterConfig, recipes: Sequence["Recipe"] = ()) -> Iterator[Cluster]:
    """Start or join a cluster that is to compute some recipes, and add Fanfold's page to its dashboard.

    Raises:
        FanfoldError: See `fanfold.pipeline.cluster.cluster.open_cluster`; or a worker can't compute one of the recipes.
    """
    with with_page(engine.open_cluster(config)) as cluster:
        if recipes:
            from fanfold.pipeline.executors.prepare import check_workers  # needs PyTorch, `prepare` doesn't

            for recipe in recipes:
                check_workers(cluster, recipe)
        yield cluster


@contextmanager
def with_page(opening: AbstractContextManager[Cluster]) -> Iterator[Cluster]:
    """Add Fanfold's page to the dashboard of a cluster; a missing page becomes a note."""
    with opening as cluster:
        notes = [note for note in (cluster.note, offer(cluster.client)) if note]
        yield replace(cluster, note="\n".join(notes) or None)


def show_cluster(cluster: Cluster) -> None:
    """Print the notes on a cluster, and its dashboard's address."""
    if cluster.note:
        say(cluster.note)
    say(f"dashboard: {cluster.dashboard}")
