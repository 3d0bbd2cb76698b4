"""The start and end of a command: its exit status, and one line for an error."""

import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from fanfold.data.advice import one_printable_line
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import shown
from fanfold.workflows.cli.output import Lasting, lasting_output
from fanfold.workflows.cli.program import goes_on, interruptible, started_as_module

PRINTING = {"-h", "--help", "--version", "--print_config", "configs", "schema", "completion", "doctor"}
"""Words of requests for nothing but text on standard output."""

# How a run is ended from outside: by Ctrl-C; by queues, containers and `kill`; by the end of a terminal.
ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    ENDINGS[signal.SIGHUP] = "ended by SIGHUP"

REFUSED = (errno.ENAMETOOLONG, errno.EACCES)
"""How a system refuses to look a file's name up: whether there is such a file is asked in many places."""


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Run a command with the command line's arguments, and exit: 0, 2 for a wrong request, 1 for a failed run.

    A command that goes on from where it was interrupted says so by `interruptible`.
    """
    for number in ENDINGS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # `nohup` and `&` ignore some
            signal.signal(number, _interrupt)
    started_as_module()
    interruptible(None)
    # Every worker would import the command as its main module first, with all that only a driver needs. It imports no
    # main module without a file, such as that of an interactive session.
    workflow = sys.modules["__main__"]
    workflow.__spec__ = None
    vars(workflow).pop("__file__", None)
    with lasting_output():
        status = status_of(main)
        lost = sys.stdout.full if isinstance(sys.stdout, Lasting) else False
    # Whoever asked for nothing but text, and did not get it, must know.
    sys.exit(status or int(lost and bool(PRINTING & set(sys.argv[1:]))))


def status_of(main: Callable[[Sequence[str]], None]) -> int:
    """Run a command to its end, and say in a line how it failed. Returns its exit status."""
    try:
        main(sys.argv[1:])
    except FanfoldError as error:
        from fanfold.workflows.cli.flags import in_flags  # only here: it knows all fields, and takes its time to import

        print(f"error: {one_printable_line(in_flags(str(error)))}", file=sys.stderr)
        return error.status
    except OSError as error:
        if error.errno not in REFUSED or error.filename is None:
            raise
        print(f"error: {shown(os.fsdecode(error.filename))}: {error.strerror}", file=sys.stderr)
        return FanfoldError.status
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        said = ENDINGS[number]
        advice = goes_on()
        print(said if advice is None else f"{said}: {advice}", file=sys.stderr)
        return 128 + int(number)
    except SystemExit as ended:  # of the parser, after help
        return ended.code if isinstance(ended.code, int) else 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    return 0


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # Dask's and Tornado's threads would log the interruption.
    logging.disable()
    began = time.monotonic()

    def end_at_once(again: int, _frame: FrameType | None) -> None:
        # The end takes seconds. Another Ctrl-C is impatience, unless it comes with the first: some send it to a process
        # and to its group. Dask's workers end by themselves when their scheduler is gone.
        if again == signal.SIGINT and time.monotonic() - began > 1:
            os._exit(128 + again)

    for other in ENDINGS:
        if signal.getsignal(other) is _interrupt:
            signal.signal(other, end_at_once)
    raise KeyboardInterrupt(number)
