"""The start and end of a command: its exit status, and one line for an error."""

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.program import started_as_module


def run(main: Callable[[Sequence[str]], None], goes_on: str | None = None) -> NoReturn:
    """Run a command with the command line's arguments, and exit: 0, 2 for a wrong request, 1 for a failed run.

    `goes_on` tells the user how an interrupted command goes on; without it, the command begins again.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, _interrupt)
    started_as_module()
    # Every worker would import the command as its main module first, with all that only a driver needs. It imports no
    # main module without a file, such as that of an interactive session.
    workflow = sys.modules["__main__"]
    workflow.__spec__ = None
    vars(workflow).pop("__file__", None)
    try:
        main(sys.argv[1:])
    except FanfoldError as error:
        from fanfold.workflows.cli.flags import in_flags  # only here: it knows all fields, and takes its time to import

        print(f"error: {in_flags(str(error))}", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        print("interrupted" if goes_on is None else f"interrupted: {goes_on}", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Dask's and Tornado's threads would log the interruption.
    logging.disable()
    raise KeyboardInterrupt
