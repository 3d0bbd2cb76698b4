"""From a run to a learner that labels pictures, and its calibration on the run's validation classes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.pictures import Preprocessing
from fanfold.data.store import open_store
from fanfold.pipeline import worker
from fanfold.pipeline.calibration import Calibration, Judged, calibrate
from fanfold.pipeline.checkpoint import Checkpoint
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.batch import gather_distinct
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_episodes
from fanfold.tasks.heads import Head
from fanfold.tasks.learner import Learner, in_batches

TASKS = 40  # of validation classes
QUERIES = 3  # of each class, at most


def learner_of(recipe: Recipe, found: Checkpoint, parameters: Vector | None = None) -> Learner:
    """A run's best parameters, or others of its, as a learner on this process's CPU."""
    parameters = found.best if parameters is None else parameters
    recipe = replace(recipe, device="cpu")
    opened = worker.open_context(recipe)
    statistics = found.statistics if parameters is found.best else {}
    learner = Learner(
        recipe.algorithm,
        recipe.model,
        opened.images.size,
        opened.images.channels,
        recipe.train.ways if recipe.algorithm.head else None,
        torch.from_numpy(parameters.copy()),
        {name: torch.from_numpy(value) for name, value in statistics.items()},
        recipe.steps,
        kept={name: value.clone() for name, value in opened.network.kept().items()},
        flip=recipe.flip,
    )
    if learner.statistics or not (learner.embeds and opened.network.normalizes_by_batch):
        return learner
    statistics = worker.statistics(recipe, parameters)
    return replace(learner, statistics={name: torch.from_numpy(value) for name, value in statistics.items()})


def calibrated(recipe: Recipe, learner: Learner, ways: int, shots: int) -> tuple[Learner, Calibration | None]:
    """A learner for so many ways and shots, and its calibration on validation classes.

    Where the ways are others than in training, the head is the one of `tasks.heads` that does better there.
    """
    if learner.ways in (None, ways):
        return learner, measure(recipe, learner, ways, shots)
    heads = [replace(learner, head=head) for head in get_args(Head)]
    tried = [(one, measure(recipe, one, ways, shots)) for one in heads]
    return max(tried, key=lambda found: -1.0 if found[1] is None else found[1].accuracy)


def measure(recipe: Recipe, learner: Learner, ways: int, shots: int, tasks: int = TASKS) -> Calibration | None:
    """Calibrate a learner by tasks of validation classes, of as many ways and shots, or as many as there are.

    Returns:
        The calibration; None where fewer than two validation classes have two pictures.
    """
    recipe = replace(recipe, device="cpu")
    opened = worker.open_context(recipe)
    counts, classes = opened.images.counts, worker.part_of(opened.split, Stream.VALIDATION)
    classes = classes[counts[classes] >= 2]
    if len(classes) < 2:
        return None
    known = min(ways, len(classes))
    others = min(known, len(classes) - known)
    shots = min(shots, int(counts[classes].min()) - 1)
    queries = min(QUERIES, int(counts[classes].min()) - shots)
    shape = EpisodeShape(known + others, shots, queries, recipe.task.rotations, recipe.task.reflections)
    episodes = draw_episodes(recipe.seed, Stream.VALIDATION, 0, tasks, shape, classes, counts)
    images, places = gather_distinct(episodes, opened.images)
    if learner.embeds and opened.images is opened.pictures:  # they weren't embedded before
        images = in_batches(learner.encoder, images)
    return calibrate(known, shots, list(_judged(learner, images, places, known, shots)))


def _judged(learner: Learner, images: Tensor, places: NDArray[np.int64], known: int, shots: int) -> Iterator[Judged]:
    """The logits of tasks whose images have these places `[tasks, ways, shots + queries]`, known classes first.

    Where the learner embeds, these are embeddings.
    """
    labels = torch.arange(known).repeat_interleave(shots)
    for of_task in torch.from_numpy(places):
        support, asked = images[of_task[:known, :shots].flatten()], of_task[:, shots:]
        queries = images[asked.flatten()]
        if learner.embeds:
            logits = learner.judge(support, labels)(queries)
        else:
            logits = in_batches(learner.learn(support, labels), queries)
        found = logits.double().numpy()
        end = known * asked.shape[1]
        yield Judged(found[:end], np.repeat(np.arange(known), asked.shape[1]), found[end:])


def open_preprocessing(recipe: Recipe) -> Preprocessing:
    """How the pictures of a recipe's store were preprocessed."""
    return open_store(recipe.store).preprocessing
