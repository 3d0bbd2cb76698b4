"""Fit a method on embeddings: its centre to training pictures, and what it chooses on validation classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fanfold.data.embeddings import EmbeddedImages
from fanfold.data.errors import FanfoldError
from fanfold.pipeline import worker
from fanfold.pipeline.checkpoint import Checkpoint, Statistics, cut
from fanfold.pipeline.evaluation import evaluation_chunks, find_statistics, normalizations
from fanfold.pipeline.executors.base import Executor
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.results import summarize
from fanfold.tasks.episodes import Stream
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.predict import predict
from fanfold.tasks.predictions import Predictions, join


@dataclass(frozen=True)
class Fit:
    """What was fitted."""

    parameters: Vector
    predictions: Predictions  # of validation tasks
    statistics: Statistics | None  # of batch norm, that the predictions were made with


def fit(executor: Executor, recipe: Recipe, theta: Vector, tasks: int) -> Fit:
    """Fit a recipe's algorithm, one of `fanfold.tasks.fitted`, by validation tasks, to embeddings of a network.

    Numbers are chosen one after another: the most accurate; of these, the one of the least loss.

    Args:
        executor: What computes.
        recipe: The recipe.
        theta: The network's own parameters, float32 `[P]`; none of a frozen network.
        tasks: How many validation tasks.

    Raises:
        RunError: The cluster lost all its workers.
    """
    algorithm = recipe.algorithm
    assert isinstance(algorithm, Fitted)
    network = worker.open_context(replace(recipe, device="cpu")).network
    own = network.unflatten(torch.from_numpy(theta.copy()))
    how = normalizations(recipe)[0]
    begun = algorithm.parameters(network, own, None, {}).numpy()
    population = find_statistics(executor, recipe, begun, how)
    (mean,) = executor.map("mean-embedding", partial(mean_embedding, recipe), [begun, population], [()])
    centre, chunks = torch.from_numpy(np.array(mean)), evaluation_chunks(recipe, tasks, how or "batch")
    chosen = dict[str, float]()

    def judged(values: Sequence[Mapping[str, float]]) -> list[tuple[Vector, Predictions]]:
        vectors: list[Vector] = [
            algorithm.parameters(network, own, centre, {**chosen, **one}).numpy() for one in values
        ]
        parts = executor.map("fit", partial(judge, recipe), [vectors, population], chunks)
        return list(zip(vectors, map(join, zip(*parts, strict=True)), strict=True))

    best = None
    for name, values in algorithm.grids().items():
        found = judged([{name: value} for value in values])
        place = max(range(len(found)), key=lambda place: _goodness(found[place][1]))
        chosen[name], best = values[place], found[place]
    assert best is not None, "every such algorithm chooses something"
    return Fit(*best, population)


def _goodness(predictions: Predictions) -> tuple[float, float]:
    return summarize(predictions.accuracies).mean, -float(predictions.losses.mean())


def mean_embedding(recipe: Recipe, parameters: Vector, population: Statistics | None) -> NDArray[np.float32]:
    """The mean embedding `[d]` of training pictures: of all where they are embedded, else of at least 1,000."""
    with worker.in_context(recipe, Stream.POPULATION, 0) as opened:
        if isinstance(opened.images, EmbeddedImages):
            first, values, train = opened.images.first, opened.images.values, opened.split.train
            total = np.sum([values[first[one] : first[one + 1]].sum(0, np.float64) for one in train], axis=0)
            return np.asarray(total / opened.images.counts[train].sum(), np.float32)
        meta, tasks = worker.to_tensor(parameters, recipe), worker.population_tasks(recipe)
        network, found = worker.tasks_to_judge(recipe, opened, Stream.POPULATION, meta, population, 0, tasks)
        with torch.no_grad():
            parts = [network(opened.network.own(meta), images) for images in (*found.support, *found.query)]
        return worker.to_vector(torch.cat(parts).double().mean(0))


def judge(
    recipe: Recipe, candidates: Sequence[Vector], population: Statistics | None, first: int, last: int
) -> list[Predictions]:
    """The predictions of several parameters, of one network, for the queries of some validation tasks.

    The tasks are embedded once.
    """
    with worker.in_context(recipe, Stream.VALIDATION, first) as opened:
        vectors = [worker.to_tensor(one, recipe) for one in candidates]
        of_tasks = worker.tasks_to_judge(recipe, opened, Stream.VALIDATION, vectors[0], population, first, last)
        network, tasks = of_tasks
        return [predict(recipe.algorithm, network, one, tasks, recipe.steps, "population") for one in vectors]


def own_parameters(recipe: Recipe, found: Checkpoint, parameters: Vector) -> Vector:
    """The parameters of a recipe's network, by name, out of those of a run with another algorithm.

    Raises:
        FanfoldError: The run's network is another.
    """
    shapes = worker.open_context(replace(recipe, device="cpu")).network.shapes
    there = {} if found.layout is None else cut(parameters, found.layout)
    missing = [name for name, shape in shapes.items() if there.get(f".{name}", np.empty(0)).shape != tuple(shape)]
    if missing:
        raise FanfoldError(f"The run's network lacks {missing[0]} of this configuration: it is another model.")
    parts = [there[f".{name}"].ravel() for name in shapes]
    return np.concatenate([np.zeros(0, np.float32), *parts])
