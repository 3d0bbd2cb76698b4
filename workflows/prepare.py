"""Prepare a data set: read or draw it, and write it as a Zarr store."""

from collections.abc import Sequence

from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import in_flags


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.prepare", __doc__, argv, ["dataset"])
    parser.add_argument(
        "--overwrite", type=bool, nargs="?", const=True, default=False, help="replace an existing store"
    )
    options = parse(parser, argv)
    # Only here: help and wrong arguments need no Zarr, which takes seconds to import.
    from fanfold.data.datasets import prepare
    from fanfold.data.store import open_store

    prepared = prepare(options.dataset, overwrite=options.overwrite)
    if prepared.note:
        print(in_flags(prepared.note))
    store = open_store(prepared.path)
    for line in prepared.told:
        print(in_flags(line))
    print(f"{prepared.path}: {store}")


if __name__ == "__main__":
    run(main)
