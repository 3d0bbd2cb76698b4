"""The interface of a peer."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from fanfold.tasks.batch import TaskBatch

Compute = Callable[[TaskBatch], Tensor]
"""Maps tasks to the sum of their exact meta-gradients, `[P]`, in the order of the module's parameters."""

Prepare = Callable[[nn.Module, float, int], Compute]
"""Maps a module, which it does not change, the inner learning rate and the number of inner steps to a `Compute`."""


def gathered(module: nn.Module) -> Tensor:
    """The gradients of the module's parameters, `[P]`."""
    return parameters_to_vector([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
