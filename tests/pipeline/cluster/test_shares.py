from types import SimpleNamespace

from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.shares import Shares


def cluster_of(*workers):
    """A cluster as far as its workers' addresses go."""
    scheduler = SimpleNamespace(ncores=lambda: dict.fromkeys(workers, 1))
    client = SimpleNamespace(status="running", scheduler=scheduler, sync=lambda asked, callback_timeout: asked())
    return Cluster(client, "cpu")


def test_runs_divide_the_workers_anew_as_they_begin_and_end():
    shares = Shares(cluster_of("d", "a", "c", "b"))
    with shares.one() as first:
        assert first.addresses == ["a", "b", "c", "d"]
        with shares.one() as second:
            assert (first.addresses, second.addresses) == (["a", "b"], ["c", "d"])
            with shares.one() as third:
                assert [share.addresses for share in (first, second, third)] == [["a"], ["b"], ["c", "d"]]
        assert first.addresses == ["a", "b", "c", "d"]


def test_more_runs_than_workers_share_them():
    shares = Shares(cluster_of("a", "b"))
    with shares.one() as first, shares.one() as second, shares.one() as third:
        assert [share.addresses for share in (first, second, third)] == [["a"], ["b"], ["a"]]


def test_without_workers_there_is_nothing_to_share():
    with Shares(cluster_of()).one() as first, Shares(cluster_of()).one():
        assert first.addresses == []
