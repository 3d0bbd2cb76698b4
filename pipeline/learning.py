"""Learn a classifier from a support set of pictures, and measure it on that."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Picture, PictureError, Preprocessing
from fanfold.pipeline.calibration import Calibration
from fanfold.pipeline.classifier import Classifier, Skip, read_images
from fanfold.tasks.learner import Learner, Learnt, in_batches

MOST_FOLDS = 200  # of the support set, where embeddings are at hand
MOST_ADAPTED = 5  # of the support set, where each means to adapt the network anew


def learn(
    learner: Learner,
    preprocessing: Preprocessing,
    support: Mapping[str, Sequence[Picture]],
    suited: Callable[[int, int], tuple[Learner, Calibration | None]] | None = None,
    skip: Skip | None = None,
) -> Classifier:
    """Learn the classes of a support set.

    Args:
        learner: A trained algorithm.
        preprocessing: How the pictures that it was trained with were prepared.
        support: Each class's pictures, one or many.
        suited: From ways and shots to the learner for these, and its calibration; by default the learner itself.
        skip: Told of each picture that can't be read, which is left out; by default that is an error.

    Raises:
        FanfoldError: There are fewer than two classes, or one has no picture.
        PictureError: A picture can't be read, and `skip` isn't given.
    """
    if len(support) < 2:
        raise FanfoldError(f"A support set needs two classes at least, not {len(support)}.")
    images, numbers = list[Tensor](), list[int]()
    for number, (label, pictures) in enumerate(support.items()):
        found, errors = read_images(list(pictures), preprocessing)
        for error in errors.values():
            if skip is None:
                raise PictureError(error)
            skip(PictureError(error))
        if not len(found):
            raise FanfoldError(f"The class {label} of the support set has no picture that can be read.")
        images.append(found)
        numbers += [number] * len(found)
    kept, labels = torch.cat(images), torch.tensor(numbers)
    shots = int(labels.bincount().double().median().round())
    learner, measured = (learner, None) if suited is None else suited(len(support), shots)
    if learner.embeds:
        kept = in_batches(learner.encoder, kept)
        learnt = Learnt(learner.encoder, learner.judge(kept, labels))
    else:
        learnt = learner.learn(kept, labels)
    return Classifier(
        tuple(support), learnt, learner, preprocessing, kept, labels, measured, left_out(learner, kept, labels)
    )


def left_out(learner: Learner, support: Tensor, labels: Tensor) -> tuple[int, int] | None:
    """How many support pictures are found by a classifier that learnt without them, and of how many.

    Embeddings are left out one at a time; from images, which the network adapts to anew, one of every class at a time.
    Pictures that are the only one of their class are in every support set, and not judged.
    """
    right = asked = 0
    for places in folds(labels.numpy(), MOST_FOLDS if learner.embeds else MOST_ADAPTED):
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[places] = False
        if learner.embeds:
            logits = learner.judge(support[kept], labels[kept])(support[places])
        else:
            logits = in_batches(learner.learn(support[kept], labels[kept]), support[places])
        right += int((logits.argmax(1) == labels[places]).sum())
        asked += len(places)
    return (right, asked) if asked else None


def folds(labels: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    """Places of support pictures to leave out together: each alone, or at most `most` folds, some of every class."""
    is_of = labels[:, None] == np.arange(labels.max() + 1)
    number, counts = is_of.cumsum(0)[np.arange(len(labels)), labels] - 1, is_of.sum(0)
    able = counts[labels] > 1
    if able.sum() <= most:
        return [np.array([place]) for place in np.flatnonzero(able)]
    parts = min(int(counts.max()), most)
    found = [np.flatnonzero(able & (number % parts == part)) for part in range(parts)]
    return [places for places in found if len(places)]
