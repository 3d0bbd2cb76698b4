"""A network tried before anything starts: by the derivative that an algorithm takes of it."""

from dataclasses import fields, replace
from typing import Any

import torch

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network

LENGTH = 200  # characters of a module's own error that a message shows


def check_training(algorithm: Algorithm, network: Network, ways: int, size: tuple[int, int], channels: int) -> None:
    """Compute the meta-gradient of a task of noise: one picture a class and, where there are inner steps, one.

    Networks that are stacks of known layers, and those that learn nothing, are not tried. Generators stay as they were.

    Raises:
        FanfoldError: It fails, or its numbers are not those of the meta-parameters.
    """
    if network.stack is not None or not network.draws or not network.shapes:
        return
    algorithm, ways = _short(algorithm), ways if algorithm.head else 2
    labels = torch.arange(ways)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        support, query = torch.rand(2, 1, ways, channels, *size)
        try:
            network.train(True)
            parameters = algorithm.initialize(network).float()
            tasks = TaskBatch(support, labels, query, labels, ways)
            found = algorithm.meta_gradient(network, parameters, 0, tasks).gradient
        except FanfoldError:
            raise
        except Exception as error:  # whatever a user's own module or algorithm may raise
            raise FanfoldError(
                f"{algorithm.name} can't train the model: its meta-gradient fails on images of {channels} × {size[0]} "
                f"× {size[1]} ({one_line(error)[:LENGTH]})."
            ) from error
    if found.shape != parameters.shape or found.is_complex():
        raise FanfoldError(
            f"{algorithm.name} can't train the model: its meta-gradient has the shape {list(found.shape)}, and not "
            f"that of its parameters, {list(parameters.shape)}."
        )


def _short(algorithm: Any) -> Algorithm:
    """The algorithm with one inner step; one of a user's own as it is."""
    ours = type(algorithm).__module__.startswith("fanfold.")
    steps = ours and any(part.name == "inner_steps" for part in fields(algorithm))
    found: Algorithm = replace(algorithm, inner_steps=1) if steps else algorithm
    return found
