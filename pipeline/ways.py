"""A recipe and its parameters for tasks of another number of ways than it was trained with."""

from dataclasses import replace

import torch

from fanfold.pipeline import worker
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.heads import with_ways


def for_ways(recipe: Recipe, parameters: Vector, ways: int) -> tuple[Recipe, Vector]:
    """A recipe that can be tested with so many ways, and its parameters.

    An algorithm without a head takes any number; for others see `tasks.heads.with_ways`.

    Raises:
        FanfoldError: The network can't be built for so many ways.
    """
    if not recipe.algorithm.head or recipe.train.ways == ways:
        return recipe, parameters
    wanted = replace(recipe, train=replace(recipe.train, ways=ways))
    shapes = [
        recipe.algorithm.shapes(worker.open_context(replace(one, device="cpu")).network) for one in (recipe, wanted)
    ]
    found: Vector = with_ways(torch.from_numpy(parameters.copy()), *shapes).numpy()
    return wanted, found
