"""Meta-parameters for another number of ways than they were trained with."""

from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.tasks.parameters import Shapes, flatten, unflatten


def with_ways(parameters: Tensor, trained: Shapes, wanted: Shapes) -> Tensor:
    """Meta-parameters `[P']` of the wanted shapes, from those `[P]` of the trained shapes.

    Where the shapes differ, in the head and what an algorithm learns for it, every row is the mean of the trained rows:
    no class is told from another before the first inner step.

    Raises:
        FanfoldError: Names differ, or more than the number of a tensor's rows.
    """
    found = {}
    for (name, value), (other, shape) in zip(unflatten(trained, parameters).items(), wanted.items(), strict=True):
        if value.shape == shape:
            found[name] = value
        elif name == other and value.shape[1:] == shape[1:]:
            found[name] = value.mean(0, keepdim=True).expand(shape)
        else:
            raise FanfoldError(f"{name} can't be had for another number of ways: give `task.ways` as in training.")
    return flatten(found)
