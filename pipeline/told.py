"""Lines that tell of pictures that were skipped, or that were judged with little to go by."""

from collections.abc import Sequence

from fanfold.data.advice import counted

NAMED = 5  # pictures or classes at most that a line names


def skipped_in_words(errors: Sequence[str]) -> str:
    """A line that counts pictures that were skipped, and names the first ones, by the errors on them."""
    named, left = "; ".join(errors[:NAMED]), len(errors) - NAMED
    count = "1 picture is" if len(errors) == 1 else f"{len(errors):,} pictures are"
    return f"{count} skipped: {named}" + (f"; and {left:,} more" if left > 0 else "")


def constant_in_words(number: int, first: Sequence[str], what: str = "picture") -> str:
    """A line that counts pictures of one colour all over, and names the first ones."""
    more = f" and {number - NAMED:,} more" if number > NAMED else ""
    verb = "has" if number == 1 else "have"
    return f"{counted(number, what)} {verb} one colour all over: {', '.join(first[:NAMED])}{more}"


def grey_in_words(number: int, judged: int, first: Sequence[str]) -> str:
    """A line that counts grey ones of the pictures that were judged, and names the first one."""
    verb = "is" if number == 1 else "are"
    where = "where labelled ones are in colour: look at their labels"
    return f"{number:,} of {counted(judged, 'picture')} {verb} grey, such as {first[0]}, {where}"
