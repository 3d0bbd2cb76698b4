"""What layers whose derivatives are written out hand from one of their functions to the next."""

from collections.abc import Sequence
from typing import Any, NamedTuple

Kept = Any  # by a layer, and for its own functions alone


class Pass(NamedTuple):
    """A pass through a stack and back: what each layer kept."""

    forward: Sequence[Kept]
    backward: Sequence[Kept]
