"""A metric learner's embeddings of classes in two dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fanfold.data.source import ClassName
from fanfold.pipeline import worker
from fanfold.pipeline.optimizer import Vector
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.episodes import Stream
from fanfold.tasks.network import with_statistics
from fanfold.workflows.reporting.characters import label
from fanfold.workflows.reporting.style import SERIES, Image, Picture, axes, listed, tile

CLASSES = 12
PICTURES = 40
MARKERS = "os"


@dataclass(frozen=True)
class Embedding:
    """Embedded pictures of some test classes in a plane."""

    classes: NDArray[np.int64]  # `[classes]`, numbers of the store's classes
    points: NDArray[np.float64]  # `[classes, pictures, 2]`
    share: float  # of the variance between the classes' means, in the plane
    dimensions: int  # of the embedding
    examples: Image  # `[classes, height, width]`, a picture of each class, as shown, and 3 where there is colour


def embed(recipe: Recipe, parameters: Vector) -> Embedding:
    """Embed pictures of evenly spaced test classes, each by itself, in this process; for a learner without head.

    Of each class as many as the smallest of them has, at most `PICTURES`.
    """
    recipe = replace(recipe, device="cpu")
    opened = worker.open_context(recipe)
    every = opened.classes(Stream.TEST)
    classes = every[np.unique(np.linspace(0, len(every) - 1, min(CLASSES, len(every))).round().astype(int))]
    pictures = np.arange(min(PICTURES, opened.images.counts[classes].min()))
    places = np.broadcast_arrays(classes[:, None], pictures)
    images = np.float32(1 / 255) * opened.pictures.gather(*places)
    if opened.images is not opened.pictures:  # they were embedded before
        embedded = opened.images.gather(*places).reshape(-1, opened.network.outputs).astype(np.float64)
    else:
        seen = {name: torch.from_numpy(value) for name, value in worker.statistics(recipe, parameters).items()}
        network = with_statistics(opened.network, seen)
        network.module.eval()
        with torch.no_grad():
            theta = network.own(torch.from_numpy(np.array(parameters)))
            embedded = network(theta, torch.from_numpy(images).flatten(0, 1)).double().numpy()
    points, share = in_the_plane(embedded.reshape(*images.shape[:2], -1))
    each, labels = torch.from_numpy(images[None, :, 0]), torch.arange(len(classes))
    shown = TaskBatch(each, labels, each, labels, ink=opened.images.handwriting)
    return Embedding(classes, points, share, embedded.shape[1], shown.by_class()[0][0, :, 0])


def in_the_plane(embedded: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Project `[classes, pictures, d]` onto the first two principal components of the classes' means.

    Returns:
        `[classes, pictures, 2]`, and the share of the means' variance in the plane.
    """
    means = embedded.mean(axis=1)
    centre = means.mean(axis=0)
    _, sizes, directions = np.linalg.svd(means - centre, full_matrices=False)
    variance = np.square(sizes)
    plane = np.zeros((2, embedded.shape[2]))
    plane[: len(directions[:2])] = directions[:2]
    return (embedded - centre) @ plane.T, float(variance[:2].sum() / max(variance.sum(), np.finfo(float).tiny))


def draw_embedding(found: Embedding, names: Sequence[ClassName], statistics: bool) -> Picture:
    """Draw a mark for each picture, in its class's colour and shape, and one picture at each class's mean.

    The caption tells where `statistics` of training images normalized the network.
    """
    flat = found.points.reshape(-1, 2)
    (left, bottom), (right, top) = flat.min(axis=0), flat.max(axis=0)
    size = 0.075 * max(right - left, top - bottom)
    figure, axis = axes(height=float(np.clip(0.6 + 4.6 * (top - bottom) / max(right - left, size), 3.0, 5.2)))
    for place, points in enumerate(found.points):
        colour = SERIES[place % len(SERIES)]
        marker = MARKERS[place // len(SERIES) % len(MARKERS)]
        axis.plot(*points.T, marker, color=colour, markersize=3.8, alpha=0.75, markeredgewidth=0)
        x, y = points.mean(axis=0)
        extent = (x - size / 2, x + size / 2, y - size / 2, y + size / 2)
        tile(axis, found.examples[place], extent, colour, zorder=3)
    axis.set(xlim=(left - size, right + size), ylim=(bottom - size, top + size), aspect="equal")
    axis.set(xlabel="first principal component of the means", ylabel="second principal component")
    called = listed([label((int(number), 0, False), names) for number in found.classes])
    how = " Batch norm took its statistics from training images." if statistics else ""
    return Picture(
        "embedding",
        "Embedding",
        f"Two-dimensional view of the embeddings of {len(found.classes)} test classes: {called}.",
        figure,
        f"{found.points.shape[1]} pictures of each of {len(found.classes)} test classes, one shown at their mean. "
        "The axes are the first two principal components (PCA) of the means, with "
        f"{100 * found.share:.0f} % of the means' variance in {found.dimensions} dimensions.{how}",
    )
