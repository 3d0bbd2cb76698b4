"""How a workflow ends: its exit status, and one line for what went wrong."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from data.errors import FanfoldError


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a workflow with the command line's arguments and exit: 0, 2 for a wrong request, 1 for a failed run."""
    try:
        main(sys.argv[1:])
    except FanfoldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        print("interrupted: a training run goes on with --resume --run DIRECTORY", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
