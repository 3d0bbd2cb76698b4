"""Search for a configuration: many trainings at once over a Dask cluster, each a trial of an Optuna study.

Trials are judged on validation classes only. The best one is tested once, at the end. The same command goes on with an
interrupted search.
"""

from collections.abc import Sequence

from fanfold.data import extras
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.performance import check_performance_file, performance_reported
from fanfold.workflows.cli.program import command, interruptible
from fanfold.workflows.cli.search_options import read_options


def main(argv: Sequence[str]) -> None:
    check_performance_file(read_options(argv, __doc__).performance_report)
    extras.need("search", f"`{command('search')}`")
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.workflows.actions.search import carry_out, request_of
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster
    from fanfold.workflows.cli.flags import say

    request = request_of(argv)
    interruptible("the same command goes on from here")
    base = request.base
    with (
        open_cluster(base.cluster, [base.recipe]) as cluster,
        performance_reported(cluster, request.performance_report),
    ):
        show_cluster(cluster)
        # Printed before the cluster closes, which may take a while.
        carry_out(request, cluster, say)
        print(f"  train with the best:  {command('train', '--config', str(request.best.config))}")


if __name__ == "__main__":
    run(main)
