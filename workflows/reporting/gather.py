"""A report's findings on a run's parameters, from predictions for test tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fanfold.data.source import ClassName
from fanfold.data.store import open_store
from fanfold.pipeline import worker
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.evaluation import normalizations, predict
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import Accuracy, summarize
from fanfold.pipeline.tally import Tested
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import Episodes, Stream
from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.adaptation import steps_to_try
from fanfold.workflows.reporting.characters import for_readers
from fanfold.workflows.reporting.confusions import Confusion, Mistake, confusions
from fanfold.workflows.reporting.drawn_tasks import DrawnTask, best_and_worst, with_images
from fanfold.workflows.reporting.embedding import Embedding, embed
from fanfold.workflows.reporting.groups import OfGroup, by_group
from fanfold.workflows.reporting.style import Image

PAIRS = 12  # of confused characters at most
ADAPTATION_TASKS = 200  # tested after each number of inner steps at most


@dataclass(frozen=True)
class Findings:
    """Findings on a run's parameters."""

    names: Sequence[ClassName]  # of the store's classes, for readers
    handwriting: bool  # whether the classes are characters of alphabets
    normalization: Normalization | None  # the images that a query was normalized with
    predictions: Predictions  # for the first test tasks
    groups: Sequence[OfGroup]  # the highest accuracy first
    confusions: Sequence[Confusion]  # the most confused pairs of classes
    examples: Sequence[tuple[Image, Image]]  # of each pair: a query, and a support image of the predicted class
    best: Sequence[DrawnTask]  # best first
    worst: Sequence[DrawnTask]  # worst first
    steps: int | None  # the tested number of inner steps; None for a learner without an inner loop
    adaptation: Sequence[tuple[int, Accuracy]]  # numbers of inner steps, and the accuracies after them
    embedding: Embedding | None  # of some test classes; None for a learner with a head


def gather(cluster: Cluster, recipe: Recipe, parameters: Vector, tasks: int, tested: Tested | None = None) -> Findings:
    """Predict the published way's test tasks, at most `tasks`, and evaluate the predictions.

    The predictions of a published test of the same parameters, `tested`, are used instead of new ones.

    Raises:
        RunError: The cluster lost all its workers.
    """
    store, how = open_store(recipe.store), normalizations(recipe)[0]
    handwriting = store.preprocessing.handwriting
    names = for_readers(store.names, handwriting=handwriting)
    if tested is None:
        predictions = predict(GraphExecutor(cluster, recipe), recipe, parameters, Stream.TEST, tasks, how)
    else:
        predictions = tested.predictions.part(0, tasks)
    episodes = worker.drawn(recipe, Stream.TEST, 0, len(predictions))
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
        handwriting=handwriting,
        normalization=how,
        predictions=predictions,
        groups=by_group(names, episodes, predictions),
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
    """Accuracies on the first test tasks after different numbers of inner steps; those of `tested` are known."""
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


def _task(recipe: Recipe, number: int) -> tuple[Episodes, TaskBatch]:
    """A test task alone."""
    return worker.tasks_of(recipe, Stream.TEST, number, number + 1)


def _example(recipe: Recipe, mistake: Mistake) -> tuple[Image, Image]:
    """The query of a mistake, and a support image of the predicted class; `[height, width]` each."""
    _, tasks = _task(recipe, mistake.task)
    (support,), (query,) = tasks.by_class()
    return query[mistake.way, mistake.query], support[mistake.predicted, 0]
