"""What a person is told, in one line, when something can't be done."""


class FanfoldError(Exception):
    """What was asked for can't be done; the message is one line: what is wrong, and how to mend it.

    Every workflow prints it on standard error, without a traceback, and exits with `status`.
    """

    status = 2


class RunError(FanfoldError):
    """What was asked for was right, but failed while it ran."""

    status = 1
