"""Prepare a data set: read or draw it, and write it as a Zarr store.

Pictures are read by this process's threads, or, where `--cluster` says which, by the workers of a Dask cluster.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fanfold.workflows.cli.arguments import pairs
from fanfold.workflows.cli.configuration import build_parser, check_source, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import say

if TYPE_CHECKING:
    from fanfold.data.datasets import Dataset
    from fanfold.data.source import Found, Part, Source
    from fanfold.data.writing import Reading
    from fanfold.pipeline.cluster.config import ClusterConfig


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.prepare", __doc__, argv, ["dataset", "cluster"])
    parser.add_argument(
        "--overwrite", type=bool, nargs="?", const=True, default=False, help="replace an existing store"
    )
    options = parse(parser, argv, check_source)
    # Only here: help and wrong arguments need no Zarr, which takes seconds to import.
    from fanfold.data.datasets import prepare
    from fanfold.data.splits import few_classes, split_classes
    from fanfold.data.store import open_store
    from fanfold.data.writing import in_threads
    from fanfold.pipeline.cluster.config import ClusterConfig

    reading = in_threads if options.cluster == ClusterConfig() else _over(options.cluster, options.dataset)
    prepared = prepare(options.dataset, overwrite=options.overwrite, reading=reading)
    if prepared.note:
        say(prepared.note)
    store = open_store(prepared.path)
    for line in prepared.told:
        say(line)
    print(f"{prepared.path}: {store}")
    if few := few_classes(store):
        say(few)
    if "--dataset.split" in {flag for flag, _ in pairs(argv)}:
        print(f"split {split_classes(store, options.dataset.split)}")


def _over(config: "ClusterConfig", dataset: "Dataset") -> "Reading":
    """What reads pictures on a cluster, opened when it is needed, and tells its dashboard how far it is."""

    def reading(source: "Source", batches: "Iterable[Sequence[Part]]") -> "Generator[list[Found]]":
        # Only here: Dask takes its time to import.
        from fanfold.pipeline.dashboard.listener import WorkTeller
        from fanfold.pipeline.preparing import over
        from fanfold.workflows.cli.cluster import open_cluster, show_cluster

        name = Path(getattr(dataset, "source", None) or dataset.name).name
        with open_cluster(replace(config, kind="cpu") if config.kind == "auto" else config) as cluster:
            show_cluster(cluster)
            yield from over(cluster, partial(WorkTeller, cluster.client, "preparing", name), print)(source, batches)

    return reading


if __name__ == "__main__":
    run(main)
