"""Ensembles: the networks of several runs judge a task together, by the mean of their class probabilities.

Each member learns the task from the support set by its own algorithm and parameters, and the queries' softmax
probabilities are averaged, as Antoniou, Edwards and Storkey (ICLR 2019) do with the best checkpoints of a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Statistics, parameters_sha256
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.evaluation import (
    STREAM_NAMES,
    Each,
    Judging,
    by_each_normalization,
    evaluation_chunks,
    find_statistics,
    normalizations,
)
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.tally import Tested
from fanfold.tasks.algorithm import Normalization
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predict import averaged, from_logits, query_logits, to_host
from fanfold.tasks.predictions import Predictions, join


@dataclass(frozen=True)
class Member:
    """A run's network in an ensemble."""

    name: str  # of the run
    recipe: Recipe  # with the pictures and the split of all members
    parameters: Vector
    population: Statistics | None = None  # batch norm's statistics; found where a test needs them and they are None


def meta_test_together(
    executor: Executor,
    members: Sequence[Member],
    evaluation: EvaluationConfig,
    each: Each = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Tested]:
    """Meta-test the members together, on the test tasks of the first one; see `evaluation.meta_test`.

    Raises:
        FanfoldError: The members have no normalization in common.
        RunError: The cluster lost all its workers.
    """
    first = members[0].recipe
    recipes = tuple(replace(member.recipe, task=first.task) for member in members)

    def judging(how: Normalization | None) -> Judging:
        hows = tuple(how if how in normalizations(member.recipe) else None for member in members)
        populations = [
            member.population or find_statistics(executor, member.recipe, member.parameters, own)
            if own == "population"
            else None
            for member, own in zip(members, hows, strict=True)
        ]
        compute = partial(_judge, first.seed, recipes, hows)

        def judge(begin: int, end: int) -> Predictions:
            chunks = max((evaluation_chunks(recipe, end - begin, how or "batch") for recipe in recipes), key=len)
            shared = [[member.parameters for member in members], populations]
            places = [(begin + one, begin + other) for one, other in chunks]
            return join(executor.map(STREAM_NAMES[Stream.TEST], compute, shared, places))

        return judge

    return by_each_normalization(first, normalizations_in_common(members), judging, evaluation, each, say)


def ensemble_sha256(parameters: Sequence[Vector]) -> str:
    """The SHA-256 of the members' parameters, one after the other."""
    return parameters_sha256(np.concatenate(parameters))


def normalizations_in_common(members: Sequence[Member]) -> Sequence[Normalization | None]:
    """The normalizations that suit all members, in the first one's order; a network without batch norm takes each.

    Raises:
        FanfoldError: They have none in common.
    """
    known = [(member, its) for member in members if (its := normalizations(member.recipe)) != (None,)]
    if not known:
        return (None,)
    found = [one for one in known[0][1] if all(one in its for _, its in known)]
    if not found:
        told = ", ".join(f"{member.name} by {' or '.join(map(str, its))}" for member, its in known)
        raise FanfoldError(f"No normalization suits the whole ensemble: {told}.")
    return found


def _judge(
    seed: int,
    recipes: Sequence[Recipe],
    hows: Sequence[Normalization | None],
    parameters: Sequence[Vector],
    populations: Sequence[Statistics | None],
    first: int,
    last: int,
) -> Predictions:
    """The ensemble's predictions for the queries of test tasks `first` to `last` (exclusive), on a worker.

    The tasks are a seed's; a network is its own run's, with what its seed decided besides the parameters.
    """
    found = []
    for recipe, how, vector, population in zip(recipes, hows, parameters, populations, strict=True):
        with worker.in_context(recipe, Stream.TEST, first) as opened:
            meta = worker.to_tensor(vector, recipe)
            drawn = replace(recipe, seed=seed)
            network, tasks = worker.tasks_to_judge(drawn, opened, Stream.TEST, meta, population, first, last)
            found.append(query_logits(recipe.algorithm, network, meta, tasks, recipe.steps, how or "batch"))
    return to_host(*from_logits(averaged(found), tasks.query_labels), tasks.ways)
