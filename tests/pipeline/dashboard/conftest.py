"""A cluster with Fanfold's page on its dashboard."""

import pytest

from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.dashboard.plugin import offer


@pytest.fixture(scope="session")
def pair(pair: Cluster) -> Cluster:
    """The shared cluster of two workers, with the page."""
    assert offer(pair.client) is None
    return pair
