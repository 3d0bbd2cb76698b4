"""Accuracy on held-out classes, spread over the workers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import log

from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Statistics
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.half_width import tasks_needed
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.tally import Tested, tally
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.episodes import Episodes, Stream
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.predictions import Predictions, join

STREAM_NAMES = {Stream.VALIDATION: "validate", Stream.TEST: "meta-testing"}  # on Dask's pages
EMBEDDED = 500  # test tasks a chunk where a chunk embeds each image once, however many of its tasks have it
EMBEDDED_BEFORE = 50  # test tasks a chunk where all images were embedded before, so that a task takes milliseconds
VECTORIZED_IMAGES = 10_000  # images a chunk of a test that is vectorized over tasks: some gigabytes on a GPU
ROUND = 10_000  # tasks whose predictions are held at a time, about
KEPT = 1_000  # tasks whose predictions a test keeps, for its report

Judging = Callable[[int, int], Predictions]  # of the test tasks from the first number to the last (exclusive)
Each = Callable[[int, Episodes, Predictions], None]  # is given tasks by the first one's number, and their predictions


def normalizations(recipe: Recipe) -> Sequence[Normalization | None]:
    """How tasks of this recipe may be tested, as published first."""
    network = worker.open_context(replace(recipe, device="cpu")).network
    return recipe.algorithm.normalizations if network.normalizes_by_batch else (None,)


def test(cluster: Cluster, recipe: Recipe, parameters: Vector, evaluation: EvaluationConfig) -> list[Tested]:
    """Meta-test parameters: as published first, then in the other way, if there is one.

    Raises:
        RunError: The cluster lost all its workers.
    """
    return meta_test(GraphExecutor(cluster.part("test"), recipe), recipe, parameters, evaluation)


def meta_test(
    executor: Executor,
    recipe: Recipe,
    parameters: Vector,
    evaluation: EvaluationConfig,
    population: Statistics | None = None,
    each: Each = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Tested]:
    """Meta-test parameters as `test` does, by an executor.

    Args:
        executor: Where tasks are computed.
        recipe: What they are.
        parameters: The parameters.
        evaluation: How many tasks.
        population: Batch norm's statistics, see `predict`.
        each: Is given the published test's tasks and their predictions, part after part.
        say: Shows a line.
    """

    def judging(how: Normalization | None) -> Judging:
        statistics = population or find_statistics(executor, recipe, parameters, how)
        return lambda first, last: predict(executor, recipe, parameters, Stream.TEST, last, how, statistics, first)

    return by_each_normalization(recipe, normalizations(recipe), judging, evaluation, each, say)


def by_each_normalization(
    recipe: Recipe,
    how: Sequence[Normalization | None],
    judging: Callable[[Normalization | None], Judging],
    evaluation: EvaluationConfig,
    each: Each = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Tested]:
    """Meta-test by the published normalization, the first one, and on fewer tasks by the others, see `meta_test`.

    `judging` gives the predictions by one of them.
    """
    published, *others = how
    wanted = None if evaluation.half_width is None else evaluation.half_width / 100
    tests = [_tested(recipe, published, judging(published), evaluation.tasks, wanted, each, say)]
    return tests + [
        _tested(recipe, other, judging(other), evaluation.other_tasks) for other in others if evaluation.other_tasks
    ]


def _tested(
    recipe: Recipe,
    how: Normalization | None,
    judge: Judging,
    tasks: int,
    half_width: float | None = None,
    each: Each = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Tested:
    """A test by one normalization: on so many tasks; for a half-width, a share of 1, on as many more as it takes."""
    found, kept, first = None, list[Predictions](), 0
    while first < tasks:
        last = min(tasks, first + ROUND)
        predictions = judge(first, last)
        episodes = worker.drawn(recipe, Stream.TEST, first, last)
        each(first, episodes, predictions)
        part = tally(episodes, predictions)
        found = part if found is None else found + part
        if first < KEPT:
            kept.append(predictions.part(0, KEPT - first))
        if last == tasks and half_width is not None and (more := tasks_needed(found.accuracy, half_width)) > tasks:
            say(f"after {tasks:,} tasks {found.accuracy}: ± {100 * half_width:g} % takes about {more:,} tasks")
            tasks = more
        first = last
    assert found is not None
    return Tested(how, found.accuracy, found, join(kept))


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
    first: int = 0,
) -> Predictions:
    """The predictions for the queries of the validation or test stream's tasks `first` to `tasks` (exclusive).

    The normalization is None for a network without batch norm. The population's statistics are those of
    `find_statistics`, which are found here where they are not given.

    Raises:
        RunError: The cluster lost all its workers.
    """
    how = normalization or "batch"
    if how != "population":
        population = None
    elif population is None:
        population = find_statistics(executor, recipe, parameters, normalization)
    chunks = evaluation_chunks(recipe, tasks - first, how)
    chunks = [(first + begin, first + end) for begin, end in chunks]
    return join(
        executor.map(STREAM_NAMES[stream], partial(worker.test, recipe, how, stream), [parameters, population], chunks)
    )


def not_learnt(recipe: Recipe, tested: Tested) -> str | None:
    """What a test shows of a run that learnt nothing, and what to try; None where it learnt something.

    Its accuracy's confidence interval includes that of guessing, 1 / ways. Or its accuracy is less than a tenth of the
    way from there to 1, and its loss above that of guessing, log(ways): what the inner steps did was of no use.
    """
    accuracy, chance = tested.accuracy, 1 / recipe.task.ways
    wild = tested.tally.wild
    useless = not tested.tally.mean_loss < log(recipe.task.ways)
    if not (accuracy.mean - accuracy.ci95 <= chance or (useless and accuracy.mean < chance + 0.1 * (1 - chance))):
        return None
    if isinstance(recipe.algorithm, Fitted):
        advice = "Try other weights, larger pictures, or more shots"
    else:
        advice = _slower(recipe)
    return (
        f"The run did not learn: {accuracy} is hardly better than a guess among {recipe.task.ways} classes "
        f"({100 * chance:.2f} %)"
        + (f", and the loss is not finite in {wild:,} of {tested.tally.tasks:,} tasks" if wild else "")
        + f". {advice}."
    )


def _slower(recipe: Recipe) -> str:
    """Advice to a run whose meta-training came to nothing."""
    rates = [f"`meta.lr` ({recipe.meta.lr:g})"]
    if (inner := getattr(recipe.algorithm, "inner_lr", None)) is not None:
        rates.append(f"`algorithm.inner_lr` ({inner:g})")
    return f"Try a lower {' or '.join(rates)}, or train longer (`meta.iterations`)"


def evaluation_chunks(recipe: Recipe, tasks: int, normalization: Normalization) -> list[tuple[int, int]]:
    """First and last (exclusive) number of each chunk of a validation's or a test's tasks, wherever it is computed."""
    if normalization == "population":
        size = EMBEDDED
    elif worker.embedded_before(recipe):
        size = max(recipe.meta.chunk, EMBEDDED_BEFORE)
    elif recipe.vectorized:
        shape = recipe.task
        support, queries = shape.ways * shape.shots, shape.ways * shape.queries
        images = support + queries * (support + 1 if normalization == "single" else 1)
        size = max(recipe.meta.chunk, VECTORIZED_IMAGES // images)
    else:
        size = recipe.meta.chunk
    return recipe.meta.chunks(tasks, size)
