"""Print the JSON schema of a verb's configuration, by which an editor checks and completes a YAML file.

Write it to a file, and name that in the first line of the YAML file:

    # yaml-language-server: $schema=fanfold.json
"""

import json
from collections.abc import Sequence
from typing import Literal

from fanfold.workflows.cli.arguments import kind_of
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.schema import schema
from fanfold.workflows.cli.verbs import verb_parser


def main(argv: Sequence[str]) -> None:
    parser = build_parser("workflows.schema", __doc__, argv, [])
    parser.add_argument(
        "verb",
        type=Literal["prepare", "train", "evaluate", "search", "picture"],
        nargs="?",
        default="train",
        help="the verb whose configuration it is",
    )
    print(json.dumps(schema_of(parse(parser, argv).verb), indent=1, ensure_ascii=False))


def schema_of(verb: str) -> dict[str, object]:
    """The schema of a verb's configuration."""
    options = [
        (action.dest, kind, action.help or "")
        for action in verb_parser(verb)._actions
        if "." not in action.dest and action.nargs != 0 and (kind := kind_of(action)) is not None
    ]
    return schema(f"Configuration of `fanfold {verb}`", [("seed", int, "The seed of all random draws."), *options])


if __name__ == "__main__":
    run(main)
