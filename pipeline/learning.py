"""Learn a classifier from a support set of pictures, and measure it on that."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Picture, PictureError, Preprocessing
from fanfold.pipeline.calibration import Calibration
from fanfold.pipeline.classifier import Classifier, Skip, read_images
from fanfold.pipeline.colour import are_coloured
from fanfold.pipeline.constant import are_constant
from fanfold.tasks.fitted import Fitted
from fanfold.tasks.learner import Learner, Learnt, in_batches

MOST_FOLDS = 200  # of the support set, where embeddings are at hand
MOST_CHOSEN = 50  # where a method on embeddings chooses its numbers by it
MOST_ADAPTED = 5  # of the support set, where each means to adapt the network, or to choose a method's numbers, anew


def learn(
    learner: Learner,
    preprocessing: Preprocessing,
    support: Mapping[str, Sequence[Picture]],
    suited: Callable[[int, int], tuple[Learner, Calibration | None]] | None = None,
    skip: Skip | None = None,
    origin: str = "",
) -> Classifier:
    """Learn the classes of a support set.

    Args:
        learner: A trained algorithm.
        preprocessing: How the pictures that it was trained with were prepared.
        support: Each class's pictures, one or many.
        suited: From ways and shots to the learner for these, and its calibration; by default the learner itself, for
            which a method on embeddings chooses its numbers by the support set.
        skip: Told of each picture that can't be read, which is left out; by default that is an error.
        origin: What the algorithm was trained on, in words.

    Raises:
        FanfoldError: There are fewer than two classes, or one has no picture.
        PictureError: A picture can't be read, and `skip` isn't given.
    """
    if len(support) < 2:
        raise FanfoldError(f"A support set needs two classes at least, not {len(support)}.")
    images, numbers, constant_class, in_colour = list[Tensor](), list[int](), False, True
    for number, (label, pictures) in enumerate(support.items()):
        pictures = list(pictures)
        found, errors = read_images(pictures, preprocessing)
        for error in errors.values():
            if skip is None:
                raise PictureError(error)
            skip(PictureError(error))
        if not len(found):
            first = f", the first because: {next(iter(errors.values()))}" if errors else ""
            raise FanfoldError(f"The class {label} of the support set has no picture that can be read{first}.")
        constant_class |= all(are_constant(pictures, found, errors, preprocessing))
        in_colour &= float(are_coloured(found, preprocessing).double().mean()) > 0.5
        images.append(found)
        numbers += [number] * len(found)
    kept, labels = torch.cat(images), torch.tensor(numbers)
    shots = int(labels.bincount().double().median().round())
    learner, measured = (learner, None) if suited is None else suited(len(support), shots)
    chooses = suited is None and isinstance(learner.algorithm, Fitted)
    if learner.embeds:
        kept = in_batches(learner.encoder, kept)
        if chooses:
            learner = chosen_by(learner, kept, labels)
        learnt = Learnt(learner.encoder, learner.judge(kept, labels))
    else:
        learnt = learner.learn(kept, labels)
    right = left_out(learner, kept, labels, chooses=chooses)
    return Classifier(
        tuple(support),
        learnt,
        learner,
        preprocessing,
        kept,
        labels,
        measured,
        right,
        origin=origin,
        constant_class=constant_class,
        in_colour=in_colour,
    )


def left_out(learner: Learner, support: Tensor, labels: Tensor, *, chooses: bool = False) -> tuple[int, int] | None:
    """How many support pictures are found by a classifier that learnt without them, and of how many.

    Embeddings are left out one at a time; from images, which the network adapts to anew, one of every class at a time.
    So it is for a learner that `chooses` its numbers by the support set: it does so anew from the others alone, as
    pictures that its numbers suit would be found too well. Pictures that are the only one of their class are in every
    support set, and not judged.
    """
    right = asked = 0
    parts = folds(labels.numpy(), MOST_FOLDS if learner.embeds and not chooses else MOST_ADAPTED)
    for logits, true in _left_out(learner, support, labels, parts, chooses):
        right += int((logits.argmax(1) == true).sum())
        asked += len(true)
    return (right, asked) if asked else None


def _left_out(
    learner: Learner, support: Tensor, labels: Tensor, parts: Sequence[NDArray[np.int64]], chooses: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and labels of each part of a support set, by a classifier that learnt from the others."""
    for places in parts:
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[places] = False
        if learner.embeds:
            others = support[kept], labels[kept]
            one = chosen_by(learner, *others, most=MOST_ADAPTED) if chooses else learner
            logits = one.judge(*others)(support[places])
        else:
            logits = in_batches(learner.learn(support[kept], labels[kept]), support[places])
        yield logits, labels[places]


def chosen_by(learner: Learner, support: Tensor, labels: Tensor, most: int = MOST_CHOSEN) -> Learner:
    """A learner by a method on embeddings whose numbers are those that suit a support set best, left out in parts.

    The most accurate; of these, the one of the least loss. Where every class has one picture, nothing is chosen.
    """
    algorithm, network = learner.algorithm, learner.network(None)
    assert isinstance(algorithm, Fitted)
    parts = folds(labels.numpy(), most)
    if not parts:
        return learner
    theta, chosen = network.own(learner.parameters), dict[str, float]()

    def of(numbers: Mapping[str, float]) -> Learner:
        return replace(learner, parameters=algorithm.parameters(network, theta, None, numbers))

    def goodness(numbers: Mapping[str, float]) -> tuple[float, float]:
        found = list(_left_out(of(numbers), support, labels, parts))
        logits, asked = torch.cat([part for part, _ in found]), torch.cat([part for _, part in found])
        return float((logits.argmax(1) == asked).double().mean()), -float(cross_entropy(logits.double(), asked))

    for name, values in algorithm.grids().items():
        chosen[name] = max(values, key=lambda value: goodness({**chosen, name: value}))
    return of(chosen)


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
