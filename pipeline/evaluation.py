"""Accuracy on held-out classes, spread over the workers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import log

import numpy as np

from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Statistics
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import Tested, summarize
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import Predictions, join

STREAM_NAMES = {Stream.VALIDATION: "validate", Stream.TEST: "meta-testing"}  # on Dask's pages
EMBEDDED = 500  # test tasks a chunk where a chunk embeds each image once, however many of its tasks have it
VECTORIZED_IMAGES = 10_000  # images a chunk of a test that is vectorized over tasks: some gigabytes on a GPU


def normalizations(recipe: Recipe) -> Sequence[Normalization | None]:
    """How tasks of this recipe may be tested, as published first."""
    network = worker.open_context(replace(recipe, device="cpu")).network
    return recipe.algorithm.normalizations if network.normalizes_by_batch else (None,)


def test(cluster: Cluster, recipe: Recipe, parameters: Vector, evaluation: EvaluationConfig) -> list[Tested]:
    """Meta-test parameters: as published first, then in the other way, if there is one.

    Raises:
        RunError: The cluster lost all its workers.
    """
    return test_by(GraphExecutor(cluster.part("test"), recipe), recipe, parameters, evaluation)


def test_by(executor: Executor, recipe: Recipe, parameters: Vector, evaluation: EvaluationConfig) -> list[Tested]:
    """Meta-test parameters as `test` does, by an executor."""
    published, *others = normalizations(recipe)
    counts = {published: evaluation.tasks} | dict.fromkeys(others, evaluation.other_tasks)
    tests = list[Tested]()
    for normalization, tasks in counts.items():
        if tasks:
            predictions = predict(executor, recipe, parameters, Stream.TEST, tasks, normalization)
            tests.append(Tested(normalization, summarize(predictions.accuracies), predictions))
    return tests


def find_statistics(
    executor: Executor, recipe: Recipe, parameters: Vector, normalization: Normalization | None
) -> Statistics | None:
    """Batch norm's statistics of training images, where a test with this normalization needs them.

    Raises:
        RunError: The cluster lost all its workers.
    """
    if normalization != "population":
        return None
    found: Statistics
    (found,) = executor.map("statistics", partial(worker.statistics, recipe), [parameters], [()])
    return found


def predict(
    executor: Executor,
    recipe: Recipe,
    parameters: Vector,
    stream: Stream,
    tasks: int,
    normalization: Normalization | None,
    population: Statistics | None = None,
) -> Predictions:
    """The predictions for the queries of the first tasks of the validation or test stream.

    The normalization is None for a network without batch norm. The population's statistics are those of
    `find_statistics`, which are found here where they are not given.

    Raises:
        RunError: The cluster lost all its workers.
    """
    how = normalization or "batch"
    population = population or find_statistics(executor, recipe, parameters, normalization)
    chunks = evaluation_chunks(recipe, tasks, how)
    return join(
        executor.map(STREAM_NAMES[stream], partial(worker.test, recipe, how, stream), [parameters, population], chunks)
    )


def not_learnt(recipe: Recipe, tested: Tested) -> str | None:
    """What a test shows of a run that learnt nothing, and what to try; None where it learnt something.

    Its accuracy's confidence interval includes that of guessing, 1 / ways. Or its accuracy is less than a tenth of the
    way from there to 1, and its loss above that of guessing, log(ways): what the inner steps did was of no use.
    """
    accuracy, chance = tested.accuracy, 1 / recipe.task.ways
    losses = tested.predictions.losses
    wild = int((~np.isfinite(losses)).sum())
    useless = not float(losses.mean()) < log(recipe.task.ways)
    if not (accuracy.mean - accuracy.ci95 <= chance or (useless and accuracy.mean < chance + 0.1 * (1 - chance))):
        return None
    rates = [f"`meta.lr` ({recipe.meta.lr:g})"]
    if (inner := getattr(recipe.algorithm, "inner_lr", None)) is not None:
        rates.append(f"`algorithm.inner_lr` ({inner:g})")
    return (
        f"The run did not learn: {accuracy} is hardly better than a guess among {recipe.task.ways} classes "
        f"({100 * chance:.2f} %)"
        + (f", and the loss is not finite in {wild:,} of {len(losses):,} tasks" if wild else "")
        + f". Try a lower {' or '.join(rates)}, or train longer (`meta.iterations`)."
    )


def evaluation_chunks(recipe: Recipe, tasks: int, normalization: Normalization) -> list[tuple[int, int]]:
    """First and last (exclusive) number of each chunk of a validation's or a test's tasks, wherever it is computed."""
    if normalization == "population":
        size = EMBEDDED
    elif recipe.vectorized:
        shape = recipe.task
        support, queries = shape.ways * shape.shots, shape.ways * shape.queries
        images = support + queries * (support + 1 if normalization == "single" else 1)
        size = max(recipe.meta.chunk, VECTORIZED_IMAGES // images)
    else:
        size = recipe.meta.chunk
    return recipe.meta.chunks(tasks, size)
