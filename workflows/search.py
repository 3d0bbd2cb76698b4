"""Search for a configuration: many trainings at once over a Dask cluster, each a trial of an Optuna study.

Trials are judged on validation classes only. The best one is tested once, at the end. The same command goes on with an
interrupted search.
"""

from collections.abc import Sequence

from fanfold.data import extras
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.performance import check_performance_file, performance_reported
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.search_options import read_options


def main(argv: Sequence[str]) -> None:
    check_performance_file(read_options(argv, __doc__).performance_report)
    extras.need("search", f"`{command('search')}`")
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.search.study import count
    from fanfold.workflows.actions.search import open_request, request_of, shown, test_best
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster
    from fanfold.workflows.cli.result import in_words, kind_of_accuracy
    from fanfold.workflows.reporting.search import table, write_report

    request = request_of(argv)
    with open_cluster(request.base.cluster) as cluster, performance_reported(cluster, request.performance_report):
        show_cluster(cluster)
        with open_request(request) as study:
            config, meta = request.config, request.base.recipe.meta
            print(f"search: {request.directory} ({cluster.workers} workers, {cluster.hardware})")
            print(
                f"{config.trials} trials of {meta.iterations:,} iterations: {config.sampler}, pruned by {config.pruner}"
            )
            if meta.minutes is not None:
                print(f"trials also end after {meta.minutes:g} minutes, at an iteration that depends on the machine")
            if before := count(study).all:
                print(f"goes on from {before} trials")
            print(f"accuracies are {kind_of_accuracy(request.base.recipe)}", flush=True)
            seconds = shown(request, study, cluster)
            print(table(study))
            result = test_best(request, study, cluster.part("search", "best"), seconds)
            write_report(request.directory, study, result)
            # Printed before the cluster closes, which may take a while.
            print(in_words(result))
            print(
                f"trial {result['trial']} did best of {result['trials']} on validation classes, with "
                f"{100 * result['trial_validation_accuracy']:.2f} % "
                f"({result['pruned']} were pruned, {result['failed']} failed)"
            )
            print(f"written to {request.directory}: report.html, its pictures as PNG, result.json")
            print(f"  train with the best:  {command('train', '--config', str(request.best.config))}")


if __name__ == "__main__":
    run(main, goes_on="the same command goes on from here")
