"""What workers do before a run's first window: its errors are found then, and it takes no longer than others."""

from functools import partial
from uuid import uuid4

from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.joining import ask_workers
from fanfold.pipeline.cluster.results import results
from fanfold.pipeline.events import KernelsCompiling, Listener, Noticed
from fanfold.pipeline.executors.graph import map_graph
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.derivatives.backends import kernels_problem


def check_workers(cluster: Cluster, recipe: Recipe) -> None:
    """Check that the workers that others started can compute a recipe: they have its store, and its model's module.

    Raises:
        FanfoldError: One can't; it is named.
    """
    if cluster.joined:
        ask_workers(cluster.client, partial(worker.check_context, recipe))


def prepare_workers(cluster: Cluster, recipe: Recipe, tell: Listener) -> None:
    """Have every worker compile the kernels that it needs; on each machine one does, and the others wait for it.

    Raises:
        RunError: The cluster lost all its workers.
    """
    if not worker.needs_kernels(recipe):
        return
    addresses = cluster.addresses
    tasks = [(place,) for place in range(len(addresses))]
    graph = map_graph("prepare", uuid4().hex[:8], partial(worker.prepare, recipe), [], tasks, addresses)
    problems = set(results(cluster, graph, slow=lambda: tell(KernelsCompiling(len(addresses)))))
    for problem in sorted(found for found in problems - {kernels_problem()} if found is not None):
        tell(Noticed(problem))
