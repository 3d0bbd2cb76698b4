"""Label your own pictures by a few labelled ones of each class, with what a run has learnt."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from jsonargparse import Namespace

from fanfold.data.errors import FanfoldError
from fanfold.data.labelled import check_pictures, check_unknown, classes_in, count_pictures
from fanfold.pipeline.files import check_writable, replaced
from fanfold.workflows.cli.configuration import build_parser, flag_value, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, in_flags, say
from fanfold.workflows.cli.learner import RUN_HELP, SIZE_HELP, check_used, learner, with_learner
from fanfold.workflows.cli.trust import add_trust_flag


def main(argv: Sequence[str]) -> None:
    path = flag_value(argv, "--run")
    own, argv = argv, with_learner(path, argv)
    parser = build_parser("workflows.classify", __doc__, argv, CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0, help="default the run's own")
    parser.add_argument("--run", type=str | None, default=None, help=RUN_HELP)
    parser.add_argument("--size", type=int | None, default=None, help=SIZE_HELP)
    parser.add_argument("--support", type=Path | None, default=None, help="a folder with a folder of pictures a class")
    parser.add_argument("--query", type=Path | None, default=None, help="a folder of pictures to label, or one picture")
    parser.add_argument("--out", type=Path, default=Path("labels.csv"), help="the CSV file to write")
    parser.add_argument(
        "--sheet", type=Path | None, default=None, help="a PNG (NAME.png) with each picture beside its label"
    )
    parser.add_argument(
        "--unknown", type=float | None, default=None, help="call so large a share unknown by mistake, such as 0.05"
    )
    parser.add_argument("--save", type=Path | None, default=None, help="a file for the classifier, to use again")
    parser.add_argument(
        "--spread", type=bool, nargs="?", const=True, default=False, help="label over a cluster's workers"
    )
    add_trust_flag(parser)
    options = parse(parser, argv, partial(_check, path, own))
    assert path is not None
    total, _ = count_pictures(options.query)
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.recording.progress import Counted, Terminal
    from fanfold.pipeline.spread import over_workers
    from fanfold.workflows.actions.classify import Labelling, classify, learn_from
    from fanfold.workflows.cli.cluster import open_cluster, show_cluster

    if line := replaced((options.out, options.sheet, options.save)):
        say(line)
    trained = learner(path, options)
    classifier = learn_from(trained, options.support, say)
    asked = Labelling(options.query, options.out, options.unknown, options.sheet)
    if options.save is not None:
        classifier.save(options.save)
        say(f"classifier: {options.save}")
    with Terminal(in_flags) as terminal, ExitStack() as stack:
        over = None
        if options.spread:
            cluster = stack.enter_context(open_cluster(options.cluster))
            show_cluster(cluster)
            over = over_workers(cluster)
        classify(asked, classifier, say, over, Counted(terminal, "labelling", total))


def _check(path: str | None, own: Sequence[str], options: Namespace) -> None:
    """Raise FanfoldError where a flag or a folder is wrong, before anything is imported that takes seconds."""
    if path is None or options.support is None or options.query is None:
        raise FanfoldError(
            "--run, --support and --query are needed: a run, a folder with a folder of pictures for each class, and a "
            "folder of pictures to label, or one picture."
        )
    check_used(path, own, spread=options.spread)
    classes, _ = classes_in(options.support)
    if options.unknown is not None:
        if not 0 < options.unknown < 1:
            raise FanfoldError(f"--unknown must be above 0 and below 1, such as 0.05, not {options.unknown:g}.")
        check_unknown(classes)
    check_pictures(options.query)
    written = {"CSV file": options.out, "sheet": options.sheet, "classifier": options.save}
    given = [place.absolute() for place in written.values() if place is not None]
    if len(set(given)) < len(given):
        raise FanfoldError("--out, --sheet and --save must name different files: one would replace the other.")
    if options.sheet is not None and options.sheet.suffix.lower() != ".png":
        raise FanfoldError(f"--sheet must end in .png, not '{options.sheet.name}': a sheet is a PNG.")
    for what, place in written.items():
        if place is not None:
            check_writable(what, place)


if __name__ == "__main__":
    run(main)
