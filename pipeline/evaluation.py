"""Accuracy on held-out classes, spread over the workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from fanfold.data.errors import FanfoldError, check_at_least
from fanfold.pipeline import worker as work
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.pipeline.cluster.results import results
from fanfold.pipeline.executors.graph import evaluation_graph
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import Accuracy, Tested, summarize
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import Answers, join


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of validation and test.

    Args:
        every: Meta-iterations between validations.
        validation_tasks: Tasks of a validation.
        tasks: Tasks of a test.
        other_tasks: Tasks of the test in the other way: inductive where the published test is transductive, and the
            reverse; 0 for none.
        steps: Inner steps at validation and test; null for as many as in training.
    """

    every: int = 500
    validation_tasks: int = 200
    tasks: int = 1000
    other_tasks: int = 500
    steps: int | None = None

    def __post_init__(self) -> None:
        check_at_least("evaluation", self, every=1, validation_tasks=2, tasks=2, steps=0)
        if self.other_tasks < 0 or self.other_tasks == 1:
            raise FanfoldError(f"`evaluation.other_tasks` must be 0 or at least 2, not {self.other_tasks}.")


def normalizations(recipe: Recipe) -> Sequence[Normalization | None]:
    """How tasks of this recipe may be tested, as published first."""
    network = work.bench(replace(recipe, device="cpu")).network
    return recipe.algorithm.normalizations if network.normalizes_by_batch else (None,)


def test(cluster: Cluster, recipe: Recipe, parameters: Vector, evaluation: EvaluationConfig) -> list[Tested]:
    """Meta-test parameters: as published first, then in the other way, if there is one.

    Raises:
        RunError: The cluster lost all its workers.
    """
    published, *others = normalizations(recipe)
    counts = {published: evaluation.tasks} | dict.fromkeys(others, evaluation.other_tasks)
    testing, tests = cluster.part("test"), list[Tested]()
    for normalization, tasks in counts.items():
        if tasks:
            answers = answer(testing, recipe, parameters, Stream.TEST, tasks, normalization)
            tests.append(Tested(normalization, summarize(answers.accuracies), answers))
    return tests


def evaluate(
    cluster: Cluster,
    recipe: Recipe,
    parameters: Vector,
    stream: Stream,
    tasks: int,
    normalization: Normalization | None,
) -> Accuracy:
    """Judge parameters on the first tasks of a stream.

    Raises:
        RunError: The cluster lost all its workers.
    """
    return summarize(answer(cluster, recipe, parameters, stream, tasks, normalization).accuracies)


def answer(
    cluster: Cluster,
    recipe: Recipe,
    parameters: Vector,
    stream: Stream,
    tasks: int,
    normalization: Normalization | None,
) -> Answers:
    """What is answered with some parameters to the queries of the first tasks of a stream.

    Raises:
        RunError: The cluster lost all its workers.
    """
    run, how = uuid4().hex[:8], normalization or "batch"
    graph = evaluation_graph(run, recipe, parameters, stream, tasks, how, cluster.addresses)
    return join(results(cluster, graph))
