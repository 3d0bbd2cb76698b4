"""How far a classifier's confidence can be trusted, measured on validation classes.

Tasks are drawn as for validation, with as many ways and shots as the classifier's. Their queries' logits give

- the accuracy at that number of ways,
- the temperature T that makes the softmax of logits / T a calibrated confidence (Guo, Pleiss, Sun and Weinberger, ICML
  2017, section 4.2): that of the least cross-entropy,
- the scores of queries whose class is in the support set and of others whose class isn't. A picture is *unknown* below
  the score that a wanted share of the former lies under. AUROC is the probability that one of the former scores higher
  than one of the latter (Hendrycks and Gimpel, ICLR 2017).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import of_fields
from fanfold.pipeline.results import Accuracy, summarize

TEMPERATURES = np.geomspace(0.02, 50, 400)
LEVELS = 200  # quantiles of the scores that are kept

Floats = NDArray[np.float64]
Score = Literal["confidence", "logit"]


@dataclass(frozen=True)
class Judged:
    """The logits of one task's queries."""

    known: Floats  # `[n, ways]`, of queries whose class is in the support set
    labels: NDArray[np.int64]  # `[n]`, their classes
    unknown: Floats  # `[m, ways]`, of queries of other classes; m may be 0


@dataclass(frozen=True)
class Calibration:
    """What was measured on validation classes.

    Args:
        ways: Classes of a task.
        shots: Support images of each.
        accuracy: The mean accuracy, as a share of 1.
        ci95: Half the width of its 95 % confidence interval.
        tasks: The number of tasks.
        temperature: What logits are divided by.
        auroc: How well scores tell known classes from unknown ones; None where too few classes validate.
        by: What scores are: the calibrated `confidence`, or the largest `logit`, which is the similarity to the nearest
            class; whichever tells known classes from unknown ones better.
        known: Quantiles of the scores of queries of known classes, in rising order.
        unknown: Quantiles of those of other queries; none where too few classes validate.
    """

    ways: int
    shots: int
    accuracy: float
    ci95: float
    tasks: int
    temperature: float
    auroc: float | None
    by: Score
    known: tuple[float, ...]
    unknown: tuple[float, ...]

    def threshold(self, rate: float) -> float:
        """The score that this share of queries of known classes lies under.

        Raises:
            FanfoldError: The share isn't between 0 and 1.
        """
        if not 0 < rate < 1:
            raise FanfoldError(
                "rate, the share of pictures that may be called unknown by mistake, must be above 0 and below 1, such "
                f"as 0.05, not {rate:g}."
            )
        return float(np.quantile(self.known, rate))

    def caught(self, threshold: float) -> float:
        """The share of queries of unknown classes that lie under a threshold."""
        return float((np.array(self.unknown) < threshold).mean()) if self.unknown else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self) | {"known": list(self.known), "unknown": list(self.unknown)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_dict`.

        Raises:
            KindError: A value is missing, unknown, or of another type.
            ValueError: A value is out of its range.
        """
        found = of_fields(cls, values)
        shares = (found.accuracy, *([] if found.auroc is None else [found.auroc]))
        rising = all(list(scores) == sorted(scores) for scores in (found.known, found.unknown))
        positive = min(found.ways, found.shots, found.tasks, found.temperature) > 0
        if not (positive and found.ci95 >= 0 and all(0 <= share <= 1 for share in shares) and rising and found.known):
            raise ValueError("a number of its calibration is out of range")
        return found

    def __str__(self) -> str:
        found = Accuracy(self.accuracy, self.ci95, self.tasks)
        each = "1 picture" if self.shots == 1 else f"{self.shots} pictures"
        return f"{found} at {self.ways} classes of {each} ({self.tasks} tasks of validation classes)"


def calibrate(ways: int, shots: int, tasks: Sequence[Judged]) -> Calibration:
    """The calibration that some tasks' logits show; there must be at least two."""
    known = [task.known for task in tasks]
    labels = [task.labels for task in tasks]
    accuracies = np.array([(part.argmax(1) == true).mean() for part, true in zip(known, labels, strict=True)])
    accuracy = summarize(accuracies)
    temperature = best_temperature(np.concatenate(known), np.concatenate(labels))
    logits, other = np.concatenate(known), np.concatenate([task.unknown for task in tasks])
    tried = {by: (score(logits, temperature, by), score(other, temperature, by)) for by in get_args(Score)}
    by: Score = max(tried, key=lambda name: auroc(*tried[name])) if len(other) else "confidence"
    scores, others = tried[by]
    return Calibration(
        *(ways, shots, accuracy.mean, accuracy.ci95, accuracy.tasks, temperature),
        auroc=auroc(scores, others) if len(others) else None,
        by=by,
        known=_quantiles(scores),
        unknown=_quantiles(others),
    )


def probabilities(logits: Floats, temperature: float) -> Floats:
    """The softmax of logits / T, `[n, ways]`."""
    scaled = logits / temperature
    exp = np.exp(scaled - scaled.max(1, keepdims=True))
    shares: Floats = exp / exp.sum(1, keepdims=True)
    return shares


def score(logits: Floats, temperature: float, by: Score) -> Floats:
    """How sure a classifier is that a picture is of one of its classes, `[n]`, see `Calibration`."""
    if not len(logits):
        return np.zeros(0)
    found: Floats = probabilities(logits, temperature).max(1) if by == "confidence" else logits.max(1)
    return found


def best_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature of the least mean cross-entropy of logits `[n, ways]`.

    Labels count as if one query more had been of a class by chance (as in Platt 1999): where all queries are right, no
    temperature is too low without that.
    """
    doubt = 1 / (len(labels) + 1)
    right = (1 - doubt) * logits[np.arange(len(labels)), labels] + doubt * logits.mean(1)

    def loss(temperature: float) -> float:
        top = logits.max(1)
        log_sum = top / temperature + np.log(np.exp((logits - top[:, None]) / temperature).sum(1))
        return float((log_sum - right / temperature).mean())

    return float(min(TEMPERATURES, key=loss))


def auroc(positive: Floats, negative: Floats) -> float:
    """The probability that a positive scores higher than a negative, ties counted half (Mann and Whitney 1947)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / 2 / len(negative))


def _quantiles(scores: Floats) -> tuple[float, ...]:
    return tuple(np.quantile(scores, np.linspace(0, 1, LEVELS + 1)).tolist()) if len(scores) else ()
