"""What becomes of all parameters in one vector; see `tasks.derivatives.protocol.Vectors`."""

import torch
from torch import Tensor


def total(directions: Tensor, along: Tensor | None, rate: float, there: Tensor, back: Tensor) -> Tensor:
    moved = directions if along is None else torch.sub(directions, along, alpha=rate)
    return moved.sum(0).index_select(0, back)
