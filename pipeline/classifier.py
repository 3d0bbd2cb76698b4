"""A classifier of one's own pictures: what a run learnt from a few labelled ones."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import of_fields
from fanfold.data.labelled import UNKNOWN, check_unknown, count_pictures, pictures_in
from fanfold.data.pictures import Picture, PictureError, Preprocessing, read_picture
from fanfold.pipeline.calibration import Calibration, Floats, probabilities, score
from fanfold.pipeline.colour import are_coloured
from fanfold.pipeline.constant import are_constant
from fanfold.pipeline.files import read_bytes, write_bytes
from fanfold.pipeline.learner_file import suited_to
from fanfold.pipeline.tensor_file import Tensors, pack, told_of, unpack
from fanfold.pipeline.told import NAMED, constant_in_words, grey_in_words, skipped_in_words
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.described import described
from fanfold.tasks.flipped import unflipped
from fanfold.tasks.learner import Learner, Learnt, in_batches, linear_of
from fanfold.tasks.models import Model, handed_over

FORMAT = 2
CHUNK = 64  # pictures that are read and judged together

_SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a pair, which JSON can spell and no text has

Skip = Callable[[PictureError], None]
"""Told of a picture that can't be read, which is then left out."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a picture.

    Args:
        path: The picture's path; None for one that was given as an array or image.
        label: The class, or `unknown`.
        confidence: The probability of the most probable class.
        probabilities: The probability of each class.
        constant: Whether the picture has one colour all over, where no class is of such pictures: it is `unknown`, and
            every class has the same probability.
        grey: Whether the picture has no colour, where the labelled ones are in colour; not of one that is `constant`.
    """

    path: Path | None
    label: str
    confidence: float
    probabilities: Mapping[str, float]
    constant: bool = False
    grey: bool = False


@dataclass(frozen=True, repr=False)
class Classifier:
    """A network with all that it learnt from a support set, and how its pictures are prepared.

    Each picture is judged by itself: its label is the same alone and among others.

    Args:
        labels: The classes, in the order of the logits.
        learnt: The network.
        learner: The trained algorithm that learnt.
        preprocessing: How pictures become arrays: as in training.
        support: What the algorithm learnt from: images `[n, channels, height, width]`, or their embeddings `[n, d]`.
        numbers: The support set's labels, int64 `[n]`.
        calibration: What was measured on validation classes; None where none was.
        right: How many support pictures are found by a classifier that learnt from the others alone, and of how many;
            None where no class has two pictures.
        threshold: The score below which a picture is unknown, see `Calibration`; None for no such.
        origin: What the network was trained on, in words; empty where nobody said.
        constant_class: Whether a class has labelled pictures of one colour all over alone, and new ones may be of it.
        in_colour: Whether the network sees colour, and most labelled pictures of every class have it.
    """

    labels: tuple[str, ...]
    learnt: Learnt
    learner: Learner
    preprocessing: Preprocessing
    support: Tensor
    numbers: Tensor
    calibration: Calibration | None = None
    right: tuple[int, int] | None = None
    threshold: float | None = None
    origin: str = ""
    constant_class: bool = False
    in_colour: bool = False

    @property
    def temperature(self) -> float:
        """What logits are divided by, so that their softmax is a calibrated confidence."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def with_unknown(self, rate: float) -> "Classifier":
        """The classifier that calls pictures unknown, by mistake so large a share of those of its own classes.

        Raises:
            FanfoldError: The share is out of range, a class has that name, or nothing was measured.
        """
        if self.calibration is None:
            raise FanfoldError("Nothing was measured on validation classes, so no picture can be called unknown.")
        check_unknown(self.labels)
        return replace(self, threshold=self.calibration.threshold(rate))

    def predict(
        self,
        pictures: "Picture | Iterable[Picture]",
        *,
        over: "Over | None" = None,
        skip: Skip | None = None,
    ) -> Iterator[Prediction]:
        """Label pictures, one after another, in bounded memory: the iterator reads and judges as it is asked.

        Args:
            pictures: A folder, a picture (a path, encoded bytes, an image), or an iterable of pictures and arrays.
            over: What computes chunks of pictures, see `fanfold.pipeline.spread`; by default this process.
            skip: Told of each picture that can't be read, which is left out. By default those of a folder are left out,
                and a warning at the end counts and names them, as one does those of one colour all over; others are an
                error.

        Raises:
            FanfoldError: There is no such folder or picture, the folder has no pictures, or no pictures are given.
            PictureError: A picture that was given by itself can't be read, and `skip` isn't given.
        """
        sources, of_folder = _sources(pictures)
        chunks = _chunks(sources)
        judged = ((chunk, self.judge(chunk)) for chunk in chunks) if over is None else over(self, chunks)
        return self._warned(judged) if of_folder and skip is None else self._told(judged, skip)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the classifier to one file that needs neither the run nor its data.

        Raises:
            FanfoldError: It can't be written.
        """
        write_bytes(Path(path), self.to_bytes())

    def export(self, path: str | PathLike[str]) -> None:
        """Write the classifier for use without Fanfold, with a model card beside it.

        Args:
            path: The file: `.onnx` (needs the extra `onnx`), or `.pt2` for `torch.export.load`.

        Raises:
            FanfoldError: The suffix is another, an extra is missing, or the network can't be exported.
        """
        from fanfold.pipeline.export import export_classifier, format_of  # only here: it needs what few need

        export_classifier(self, Path(path), format_of(Path(path)))

    @staticmethod
    def load(
        path: str | PathLike[str],
        *,
        model: Model | nn.Module | type[nn.Module] | None = None,
        algorithm: Algorithm | None = None,
    ) -> "Classifier":
        """Read a classifier that was saved. This runs no code of others: a model or algorithm of one's own is given.

        A model is a module like the one that was trained, its class, or its configuration.

        Raises:
            FanfoldError: It can't be read, is damaged, or its model or algorithm is one's own and isn't given.
        """
        if isinstance(model, nn.Module) or (isinstance(model, type) and issubclass(model, nn.Module)):
            model = handed_over(model)
        return Classifier.from_bytes(read_bytes(Path(path)), str(path), model, algorithm)

    def to_bytes(self) -> bytes:
        """The content of a file, see `save`."""
        learner, calibration = self.learner, self.calibration
        facts = {
            "kind": "classifier",
            "format": FORMAT,
            "labels": list(self.labels),
            "learner": learner.facts(),
            "preprocessing": self.preprocessing.to_dict(),
            "calibration": None if calibration is None else calibration.to_dict(),
            "right": None if self.right is None else list(self.right),
            "threshold": self.threshold,
            "origin": self.origin,
            "constant_class": self.constant_class,
            "in_colour": self.in_colour,
        }
        network = unflipped(self.learnt.network)
        state = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
        if isinstance(self.learnt.judge, nn.Module):
            state |= {f"head.{name}": value.numpy() for name, value in self.learnt.judge.state_dict().items()}
        support = {"support": self.support.numpy(), "numbers": self.numbers.numpy()} if learner.embeds else {}
        return pack(facts, {**state, **support, "parameters": learner.parameters.numpy()})

    @staticmethod
    def from_bytes(
        content: bytes, name: str, model: Model | None = None, algorithm: Algorithm | None = None
    ) -> "Classifier":
        """A classifier from the content of a file, see `load`; the name is the file's, for messages."""
        facts, tensors = unpack(content, name)
        if (facts.get("kind"), facts.get("format")) != ("classifier", FORMAT):
            raise FanfoldError(f"{name} holds no classifier, or one of another version of Fanfold.")
        with told_of(name):
            return Classifier._from_parts(facts, tensors, model, algorithm)

    @staticmethod
    def _from_parts(
        facts: Mapping[str, Any], tensors: Tensors, model: Model | None, algorithm: Algorithm | None
    ) -> "Classifier":
        known = of_fields(_Facts, facts)
        labels = _checked_labels(facts["labels"])
        found = {key: torch.from_numpy(value) for key, value in tensors.items()}
        state = {key[8:]: found[key] for key in found if key.startswith("network.")}
        learner = Learner.from_facts(known.learner, found["parameters"], state, model, algorithm)
        if learner.embeds:
            support, numbers = found["support"], found["numbers"]
            if (support.ndim, support.dtype) != (2, torch.float32) or numbers.dtype != torch.int64:
                raise ValueError("its support set is no matrix of float32")
            if numbers.shape != support.shape[:1] or set(numbers.tolist()) != set(range(len(labels))):
                raise ValueError("the numbers of its support set are not those of its classes")
            learnt = Learnt(learner.encoder, learner.judge(support, numbers))
        else:
            support = numbers = torch.zeros(0, dtype=torch.int64)
            network = learner.network(None if learner.ways is None else len(labels))
            head = linear_of(found["head.weight"], found["head.bias"]) if "head.weight" in found else None
            learnt = Learnt(learner.filled(network, state), head)
        right = known.right
        if right is not None and not (len(right) == 2 and 0 <= right[0] <= right[1]):
            raise ValueError("how many of its support set it finds is out of range")
        with torch.inference_mode():
            logits = learnt(torch.zeros(1, learner.channels, *learner.size))
        if logits.shape != (1, len(labels)) or not logits.isfinite().all():
            raise ValueError("it gives no logit for each of its classes")
        return Classifier(
            labels,
            learnt,
            learner,
            suited_to(learner, known.preprocessing),
            support,
            numbers,
            None if known.calibration is None else Calibration.from_dict(known.calibration),
            None if right is None else (right[0], right[1]),
            known.threshold,
            known.origin,
            known.constant_class,
            known.in_colour,
        )

    def judge(self, pictures: Sequence[Picture]) -> "Judgement":
        """The logits of pictures, float64 `[n, ways]`, and errors for those that can't be read, by place.

        Raises:
            FanfoldError: A logit is not finite.
        """
        images, errors = read_images(pictures, self.preprocessing)
        if not len(images):
            return Judgement(np.zeros((0, len(self.labels))), errors)
        logits = in_batches(self.learnt, images).double().numpy()
        if not np.isfinite(logits).all():
            raise FanfoldError("The network's logits are not finite: train it again, with lower learning rates.")
        constant = are_constant(pictures, images, errors, self.preprocessing)
        constant = [not self.constant_class and one for one in constant]
        coloured = are_coloured(images, self.preprocessing).tolist()
        grey = [self.in_colour and not (one or plain) for one, plain in zip(coloured, constant, strict=True)]
        return Judgement(logits, errors, constant, grey)

    def __repr__(self) -> str:
        names = ", ".join(self.labels[:NAMED]) + (", …" if len(self.labels) > NAMED else "")
        parts = [f"{len(self.labels)} classes ({names})"]
        if len(self.numbers):  # a saved classifier with a head keeps no support set
            counts = self.numbers.bincount(minlength=len(self.labels))
            few, many = int(counts.min()), int(counts.max())
            each = f"{few} to {many} pictures" if few < many else "1 picture" if many == 1 else f"{many} pictures"
            parts.append(f"{each} each")
        known = "no threshold" if self.threshold is None else f"unknown below {self.threshold:.4g}"
        return f"<fanfold.Classifier: {', '.join([*parts, described(self.learner.algorithm)['name'], known])}>"

    def _warned(self, judged: Iterable[tuple[Sequence[Picture], "Judgement"]]) -> Iterator[Prediction]:
        skipped, constant, grey, number = list[str](), list[str](), list[str](), 0
        for found in self._told(judged, lambda error: skipped.append(str(error))):
            constant += [str(found.path)] if found.constant else []
            grey += [str(found.path)] if found.grey else []
            number += 1
            yield found
        if skipped:
            warnings.warn(skipped_in_words(skipped), stacklevel=2)
        if constant:
            warnings.warn(f"{constant_in_words(len(constant), constant)}: {UNKNOWN}", stacklevel=2)
        if grey:
            warnings.warn(grey_in_words(len(grey), number, grey), stacklevel=2)

    def _told(self, judged: Iterable[tuple[Sequence[Picture], "Judgement"]], skip: Skip | None) -> Iterator[Prediction]:
        for pictures, judgement in judged:
            by = "confidence" if self.calibration is None else self.calibration.by
            scores = score(judgement.logits, self.temperature, by)
            shares = probabilities(judgement.logits, self.temperature)
            rows = zip(shares, scores, judgement.constant, judgement.grey, strict=True)
            for place, picture in enumerate(pictures):
                if (error := judgement.errors.get(place)) is None:
                    yield self._prediction(picture, *next(rows))
                elif skip is None:
                    raise PictureError(error)
                else:
                    skip(PictureError(error))

    def _prediction(self, picture: Picture, shares: Floats, score: float, constant: bool, grey: bool) -> Prediction:
        if constant:
            shares = np.full(len(self.labels), 1 / len(self.labels))
        best, path = int(shares.argmax()), Path(picture) if isinstance(picture, (str, PathLike)) else None
        confidence = float(shares[best])
        unknown = constant or (self.threshold is not None and score < self.threshold)
        by_label = dict(zip(self.labels, shares.tolist(), strict=True))
        return Prediction(path, UNKNOWN if unknown else self.labels[best], confidence, by_label, constant, grey)


Over = Callable[[Classifier, Iterable[Sequence[Picture]]], Iterable[tuple[Sequence[Picture], "Judgement"]]]
"""From a classifier and chunks of pictures to these chunks with what it says of them."""


@dataclass(frozen=True)
class _Facts:
    """The facts of a file."""

    kind: str
    format: int
    labels: tuple[str, ...]
    learner: dict[str, Any]
    preprocessing: dict[str, Any]
    calibration: dict[str, Any] | None
    right: tuple[int, ...] | None
    threshold: float | None
    origin: str
    constant_class: bool
    in_colour: bool


def _checked_labels(labels: Any) -> tuple[str, ...]:
    """The labels of a file, two at least, all different, and text that can be written.

    Raises:
        ValueError: They aren't.
    """
    if not all(isinstance(label, str) and not _SURROGATE.search(label) for label in labels):
        raise ValueError("its labels are no text")
    if not len(set(labels)) == len(labels) >= 2:
        raise ValueError("it has fewer than two labels, or one twice")
    return tuple(labels)


@dataclass(frozen=True)
class Judgement:
    """The logits of those of some pictures that can be read, in their order, and errors for the others by place.

    Of the former, too, whether each has one colour all over, and whether it is grey where the labelled ones aren't.
    """

    logits: Floats
    errors: Mapping[int, str]
    constant: Sequence[bool] = ()
    grey: Sequence[bool] = ()


def read_images(pictures: Sequence[Picture], preprocessing: Preprocessing) -> tuple[Tensor, dict[int, str]]:
    """Pictures as the network takes them: float `[n, channels, height, width]`, 0 to 1; and errors by place."""
    found, errors = list[NDArray[np.uint8]](), dict[int, str]()
    for place, picture in enumerate(pictures):
        try:
            found.append(read_picture(picture, preprocessing))
        except PictureError as error:
            errors[place] = str(error)
    shape = (0, preprocessing.channels, preprocessing.size, preprocessing.size)
    pixels = np.stack(found) if found else np.zeros(shape, np.uint8)
    return torch.from_numpy(pixels).float().div_(255), errors


def _sources(pictures: "Picture | Iterable[Picture]") -> tuple[Iterable[Picture], bool]:
    """The pictures to label, and whether they are those of a folder."""
    if isinstance(pictures, (str, PathLike)):
        path = Path(pictures)
        if path.is_file():
            return [path], False
        if not path.exists():
            raise FanfoldError(f"{path}: there is no such folder or picture")
        count_pictures(path)  # refuses a folder without any
        return pictures_in(path), True
    if isinstance(pictures, (bytes, Image.Image)):
        return [pictures], False
    if not isinstance(pictures, Iterable):
        raise FanfoldError(f"pictures must be a folder, a picture, or a list of pictures, not {pictures!r:.100}.")
    return ([pictures] if isinstance(pictures, np.ndarray) and pictures.ndim == 2 else pictures), False


def _chunks(sources: Iterable[Picture]) -> Iterator[list[Picture]]:
    iterator = iter(sources)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
