"""A recipe and its parameters for tests with another number of ways than it was trained with."""

from dataclasses import replace

from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.labelling import calibrated, learner_of
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.heads import Head, with_ways


def for_ways(recipe: Recipe, found: Checkpoint, parameters: Vector, ways: int) -> tuple[Recipe, Vector, Head | None]:
    """A recipe that can be tested with so many ways, its parameters, and the head that they have instead of their own.

    An algorithm without a head takes any number. For others the head is one of `tasks.heads`, the better one on
    validation classes.

    Raises:
        FanfoldError: The network can't be built for so many ways.
    """
    if not recipe.algorithm.head or recipe.train.ways == ways:
        return recipe, parameters, None
    wanted = replace(recipe, train=replace(recipe.train, ways=ways))
    trained, other = (
        recipe.algorithm.shapes(worker.open_context(replace(one, device="cpu")).network) for one in (recipe, wanted)
    )
    learner, _ = calibrated(recipe, learner_of(recipe, found, parameters), ways, recipe.task.shots)
    vector: Vector = with_ways(learner.parameters, trained, other, learner.head).numpy()
    return wanted, vector, learner.head
