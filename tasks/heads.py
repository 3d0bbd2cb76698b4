"""Meta-parameters for another number of ways than they were trained with.

A head for other ways has rows that the trained one hasn't. Which are good depends on what was learnt: `mean` suits
inner loops that adapt the head, and fails where its learned rates are near zero or below. So a new head is chosen by
accuracy on validation classes, see `fanfold.pipeline.labelling`.
"""

from typing import Literal

import torch
from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.tasks.parameters import Shapes, flatten, unflatten

Head = Literal["mean", "trained"]
"""The rows of a head for other ways.

- `mean`: each is the mean of the trained rows: no class is told from another before the first inner step.
- `trained`: the first of the trained rows; further ones are drawn from their mean and standard deviation.
"""


def with_ways(parameters: Tensor, trained: Shapes, wanted: Shapes, head: Head = "mean") -> Tensor:
    """Meta-parameters `[P']` of the wanted shapes, from those `[P]` of the trained shapes.

    Where the shapes differ, in the head and what an algorithm learns for it, the rows are those of a new head.

    Raises:
        FanfoldError: Names differ, or more than the number of a tensor's rows.
    """
    found = {}
    for (name, value), (other, shape) in zip(unflatten(trained, parameters).items(), wanted.items(), strict=True):
        if value.shape == shape:
            found[name] = value
        elif name == other and value.shape[1:] == shape[1:]:
            found[name] = _rows(value, shape, head)
        else:
            raise FanfoldError(f"{name} can't be had for another number of ways: give `task.ways` as in training.")
    return flatten(found)


def _rows(value: Tensor, shape: torch.Size, head: Head) -> Tensor:
    mean = value.mean(0, keepdim=True)
    if head == "mean":
        return mean.expand(shape)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=value.dtype)
    rows = mean + value.std(0, keepdim=True) * noise
    rows[: len(value)] = value[: shape[0]]
    return rows
