"""Errors that are shown to a user in one line."""

from fanfold.data.advice import one_printable_line

LENGTH = 1000  # characters of a message; a longer one, as of a very long name, is cut in the middle


class FanfoldError(Exception):
    """A request that can't be met. The message is one line: what is wrong, and how to mend it.

    Every command prints it on standard error, without a traceback, and exits with `status`.
    """

    status = 2

    def __init__(self, message: str) -> None:
        line = one_printable_line(message)
        super().__init__(line if len(line) <= LENGTH else f"{line[: LENGTH // 2]} … {line[-LENGTH // 2 :]}")


class RunError(FanfoldError):
    """A failure while a sound request is carried out."""

    status = 1


def check_at_least(section: str, config: object, **least: int) -> None:
    """Check fields of a configuration's section against their least values; a field that is None is left open.

    Raises:
        FanfoldError: A field is less; it is named.
    """
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and value < bound:
            raise FanfoldError(f"`{section}.{name}` must be at least {bound}, not {value}.")
