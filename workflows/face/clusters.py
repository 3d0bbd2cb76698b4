"""The cluster of a Python call: one that is handed over, or workers of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeAlias

from distributed import Client
from distributed.deploy.cluster import Cluster as DaskCluster

from fanfold.data.advice import counted
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster import cluster as engine
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.workflows.cli.cluster import with_page
from fanfold.workflows.face.arguments import Section, configured
from fanfold.workflows.face.words import spoken

_current: "ContextVar[Workers | None]" = ContextVar("workers", default=None)


class Workers:
    """Workers for several calls, until they are closed.

    As a context manager they are also what calls in its block take that are given no cluster.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._stack = ExitStack()
        self.engine = self._stack.enter_context(with_page(engine.open_cluster(config)))
        self._tokens: list[Any] = []

    @property
    def client(self) -> Client:
        """Dask's client, for whatever else is to be computed there."""
        return self.engine.client

    @property
    def dashboard(self) -> str:
        """The address of Dask's dashboard, with a page of Fanfold's."""
        return self.engine.dashboard

    def close(self) -> None:
        """Stop the workers."""
        self._stack.close()

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())
        self.close()

    def __repr__(self) -> str:
        return f"<fanfold.cluster: {counted(self.engine.workers, 'worker')}, {self.engine.hardware}, {self.dashboard}>"


ACluster: TypeAlias = Workers | Client | DaskCluster | str | int | Section
"""Where to compute: `fanfold.cluster(…)`; a client or a cluster of Dask's; an address, `cpu` or `cuda`; a number of
workers on this machine; or settings such as `{"kind": "cpu", "reduction": "graph"}`."""


@spoken
def cluster(workers: int | None = None, kind: str = "auto", **settings: Any) -> Workers:
    """Start workers on this machine, or join a scheduler, for several calls.

    Args:
        workers: How many; by default one a GPU, or one a core where there is no GPU.
        kind: `auto`, `cpu`, `cuda`, or a scheduler's address (`tcp://…`).
        settings: Other fields of `fanfold.pipeline.cluster.cluster.ClusterConfig`, such as `dashboard=":0"`.

    Returns:
        The workers. As a context manager they serve all calls in its block, and are stopped at its end; otherwise give
        them as `cluster=…`, and `close()` them.

    Raises:
        fanfold.FanfoldError: There is no GPU where one was asked for, or workers don't answer in time.

    >>> with fanfold.cluster(workers=2, kind="cpu", dashboard=":0") as cluster:
    ...     print(len(cluster.client.nthreads()))
    2
    """
    return Workers(_configured({"kind": kind, "workers": workers, **settings}))


def given_cluster(given: ACluster | None) -> ACluster | None:
    """The cluster that a call was given, or that of the block around it."""
    return _current.get() if given is None else given


@contextmanager
def opened(given: ACluster | None) -> Iterator[Cluster]:
    """The cluster that a call was given, with Fanfold's page on its dashboard; by default workers of its own.

    Workers that the call starts are stopped at the end; others are left as they are.

    Raises:
        FanfoldError: It can't be started or joined, or is no cluster.
    """
    with ExitStack() as stack:
        match given := given_cluster(given):
            case Workers():
                yield given.engine
                return
            case Client():
                found = engine.join(given, ClusterConfig())
            case DaskCluster():
                found = engine.join(stack.enter_context(Client(given)), ClusterConfig())
            case _:
                found = engine.open_cluster(settings_of(given))
        yield stack.enter_context(with_page(found))


def settings_of(given: ACluster | None) -> ClusterConfig:
    """The settings of the cluster that a call was given; the defaults for one that exists.

    Raises:
        FanfoldError: It is no cluster, or its settings are wrong.
    """
    match given:
        case None | Workers() | Client() | DaskCluster():
            return ClusterConfig()
        case ClusterConfig():
            return given
        case bool():
            pass
        case str():
            return _configured({"kind": given})
        case int():
            return _configured({"workers": given})
        case dict():
            return _configured(given)
    raise FanfoldError(
        "cluster must be a number of workers, an address, 'cpu', 'cuda', settings, fanfold.cluster(…), or a client or "
        f"cluster of Dask's, not {given!r:.100}."
    )


def _configured(settings: Section) -> ClusterConfig:
    found: ClusterConfig = configured("cluster", settings)
    return found
