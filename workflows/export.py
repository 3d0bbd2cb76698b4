"""Write a run's network for use without Fanfold: the encoder, or with --support a whole classifier."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from fanfold.data.errors import FanfoldError
from fanfold.data.extras import need
from fanfold.data.labelled import classes_in
from fanfold.pipeline.files import check_writable, replaced
from fanfold.workflows.cli.configuration import build_parser, flag_value, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import CONFIGURATION, say
from fanfold.workflows.cli.learner import RUN_HELP, SIZE_HELP, check_used, learner, with_learner
from fanfold.workflows.cli.trust import add_trust_flag


def main(argv: Sequence[str]) -> None:
    path = flag_value(argv, "--run")
    own, argv = argv, with_learner(path, argv)
    parser = build_parser("workflows.export", __doc__, argv, CONFIGURATION)
    parser.add_argument("--seed", type=int, default=0, help="default the run's own")
    parser.add_argument("--run", type=str | None, default=None, help=RUN_HELP)
    parser.add_argument("--size", type=int | None, default=None, help=SIZE_HELP)
    parser.add_argument("--support", type=Path | None, default=None, help="a folder with a folder of pictures a class")
    parser.add_argument("--format", type=Literal["onnx", "torch"], default="onnx", help="of the file")
    parser.add_argument("--out", type=Path | None, default=None, help="the file; default model.onnx or model.pt2")
    add_trust_flag(parser)
    options = parse(parser, argv, partial(_check, path, own))
    assert path is not None
    out = _out(options)
    # Only here: help and wrong arguments need no PyTorch, which takes seconds to import.
    from fanfold.pipeline.export import export_classifier, export_encoder
    from fanfold.pipeline.model_card import card_of
    from fanfold.workflows.actions.classify import learn_from

    if line := replaced((out, card_of(out))):
        say(line)
    trained = learner(path, options)
    if options.support is None:
        encoder = trained.learner if trained.encoder is None else trained.encoder()
        export_encoder(encoder, trained.preprocessing, out, options.format, trained.origin)
    else:
        export_classifier(learn_from(trained, options.support, say), out, options.format)
    say(f"written to {out}, with a model card in {card_of(out)}")


def _out(options: Namespace) -> Path:
    found: Path | None = options.out
    return found or Path("model.onnx" if options.format == "onnx" else "model.pt2")


def _check(path: str | None, own: Sequence[str], options: Namespace) -> None:
    """Raise FanfoldError where a flag or a folder is wrong, before anything is imported that takes seconds."""
    if path is None:
        raise FanfoldError("--run is needed: the directory of the run to export, or fanfold:omniglot.")
    check_used(path, own)
    out, other = _out(options), ".pt2" if options.format == "onnx" else ".onnx"
    if out.suffix == other:
        raise FanfoldError(f"--format {options.format} writes no {other} file: name another than {out}.")
    check_writable("file", out)
    if options.support is not None:
        classes_in(options.support)
    if options.format == "onnx":
        need("onnx", "Export to ONNX")


if __name__ == "__main__":
    run(main)
