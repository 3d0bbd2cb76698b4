"""What is asked of a peer."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fanfold.tasks.batch import TaskBatch

Compute = Callable[[TaskBatch], Tensor]
"""Tasks to the sum of their exact meta-gradients, `[P]`, in the order of the module's parameters."""

Prepare = Callable[[nn.Module, float, int], Compute]
"""A module, which stays as it is, the inner learning rate and the number of inner steps to what computes."""


def gathered(module: nn.Module) -> Tensor:
    """What `backward` left in the module's parameters, `[P]`."""
    return parameters_to_vector([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
