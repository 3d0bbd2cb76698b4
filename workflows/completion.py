"""Print a script that completes `fanfold` in a shell: `source <(fanfold completion bash)`."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser

from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.flags import VARIANTS, variants
from fanfold.workflows.cli.verbs import VERBS, summary, verb_parser


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.completion", __doc__, argv, [])
    parser.add_argument("shell", type=Literal["bash", "zsh", "tcsh"], help="the shell")
    options = parse(parser, argv)
    print(script(options.shell))


def script(shell: str) -> str:
    """A shell's completion of all verbs and their flags, those of the default variants."""
    parser = ArgumentParser(prog="fanfold")
    verbs = parser.add_subcommands(required=False)
    for verb in VERBS:
        found = verb_parser(verb)
        for action in found._actions:
            section, _, name = action.dest.partition(".")
            if name == "name" and section in VARIANTS:
                action.choices = list(variants(section))
        verbs.add_subcommand(verb, found, help=summary(verb))
    return parser.get_completion_script(f"shtab-{shell}")


if __name__ == "__main__":
    run(main)
