"""The arguments of a search, and of each of its trials."""

from collections.abc import Sequence

from jsonargparse import Namespace

from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.flags import CONFIGURATION
from fanfold.workflows.cli.performance import add_performance_flag


def read_options(argv: Sequence[str], description: str | None = None) -> Namespace:
    """Parse the arguments of a search."""
    parser = build_parser("workflows.search", description, argv, [*CONFIGURATION, "search", "record"])
    parser.add_argument("--seed", type=int, default=0, help="the seed of all random draws, also of the trials'")
    parser.add_argument("--run", type=str | None, default=None, help="the search's directory; default runs/search-WHAT")
    add_performance_flag(parser)
    return parse(parser, argv)
