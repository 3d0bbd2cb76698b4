"""What a report says of a run's parameters: test tasks answered over the cluster, and looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fanfold.data.source import ClassName
from fanfold.data.store import open_store
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import normalizations, predict
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import Accuracy, Tested, summarize
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import Episodes, Stream, draw_episodes
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.adaptation import steps_to_try
from fanfold.workflows.reporting.alphabets import OfAlphabet, by_alphabet
from fanfold.workflows.reporting.confusions import Confusion, Mistake, confusions
from fanfold.workflows.reporting.drawn_tasks import DrawnTask, best_and_worst, with_images
from fanfold.workflows.reporting.embedding import Embedding, embed
from fanfold.workflows.reporting.style import Image

PAIRS = 12  # of characters that were confused
ADAPTATION_TASKS = 200  # tested after each number of inner steps, at most


@dataclass(frozen=True)
class Findings:
    """What was found of a run's parameters.

    Args:
        names: The names of the store's classes.
        normalization: Which images a query was normalized with, see `tasks.algorithm.Normalization`.
        predictions: The predictions for the first test tasks.
        alphabets: They by alphabet, the most accurate first.
        confusions: The pairs of characters taken for each other most often.
        examples: Of each pair, a query and what it was taken for.
        best: The best tasks, best first.
        worst: The worst tasks, worst first.
        steps: Inner steps tested with; None for a learner without an inner loop.
        adaptation: Inner steps, and the accuracy after them.
        embedding: Some test classes' embeddings; None for a learner with a head.
    """

    names: Sequence[ClassName]
    normalization: Normalization | None
    predictions: Predictions
    alphabets: Sequence[OfAlphabet]
    confusions: Sequence[Confusion]
    examples: Sequence[tuple[Image, Image]]
    best: Sequence[DrawnTask]
    worst: Sequence[DrawnTask]
    steps: int | None
    adaptation: Sequence[tuple[int, Accuracy]]
    embedding: Embedding | None


def gather(cluster: Cluster, recipe: Recipe, parameters: Vector, tasks: int, tested: Tested | None = None) -> Findings:
    """Classify test tasks, as published first, and look at the predictions.

    Args:
        cluster: Where they are answered.
        recipe: The run's.
        parameters: The parameters to look at.
        tasks: How many test tasks.
        tested: What a test of these very parameters found, as published, where one was just made: its predictions are
            looked at, to as many tasks at most, and those tasks aren't answered again.

    Raises:
        RunError: The cluster lost all its workers.
    """
    names, how = open_store(Path(recipe.store)).names, normalizations(recipe)[0]
    if tested is None:
        predictions = predict(GraphExecutor(cluster, recipe), recipe, parameters, Stream.TEST, tasks, how)
    else:
        predictions = tested.predictions.part(0, tasks)
    episodes = _episodes(recipe, len(predictions))
    found = confusions(episodes, predictions, PAIRS)
    best, worst = (
        [with_images(number, *_task(recipe, number), predictions.part(number, number + 1), names) for number in numbers]
        for numbers in best_and_worst(predictions)
    )
    steps: int | None = getattr(recipe.algorithm, "inner_steps", None)
    if steps is not None and recipe.steps is not None:
        steps = recipe.steps
    return Findings(
        names=names,
        normalization=how,
        predictions=predictions,
        alphabets=by_alphabet(names, episodes, predictions),
        confusions=found,
        examples=[_example(recipe, one.example) for one in found],
        best=best,
        worst=worst,
        steps=steps,
        adaptation=[] if steps is None else _adaptation(cluster, recipe, parameters, predictions, steps),
        embedding=None if recipe.algorithm.head else embed(recipe, parameters),
    )


def _adaptation(
    cluster: Cluster, recipe: Recipe, parameters: Vector, predictions: Predictions, tested: int
) -> list[tuple[int, Accuracy]]:
    """Accuracy on the first test tasks after each of some numbers of inner steps; those tested with are known."""
    tasks, how = min(len(predictions), ADAPTATION_TASKS), normalizations(recipe)[0]
    points = []
    for steps in steps_to_try(tested):
        if steps == tested:
            seen = predictions.part(0, tasks)
        else:
            other = replace(recipe, steps=steps)
            seen = predict(GraphExecutor(cluster, other), other, parameters, Stream.TEST, tasks, how)
        points.append((steps, summarize(seen.accuracies)))
    return points


def _episodes(recipe: Recipe, tasks: int) -> Episodes:
    """The first test tasks, of what classes and drawings they are."""
    opened = worker.open_context(replace(recipe, device="cpu"))
    return draw_episodes(
        *(recipe.seed, Stream.TEST, 0, tasks),
        *(recipe.task, opened.classes(Stream.TEST), opened.images.drawings),
    )


def _task(recipe: Recipe, number: int) -> tuple[Episodes, TaskBatch]:
    """A test task alone."""
    return worker.tasks_of(recipe, Stream.TEST, number, number + 1)


def _example(recipe: Recipe, mistake: Mistake) -> tuple[Image, Image]:
    """The query of a mistake, and the first support image of what it was taken for; `[height, width]` each."""
    _, tasks = _task(recipe, mistake.task)
    (support,), (query,) = tasks.by_class()
    return query[mistake.way, mistake.query], support[mistake.guess, 0]
