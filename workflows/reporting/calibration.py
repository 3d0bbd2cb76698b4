"""Calibration: whether 90 % of the predictions with a probability of 90 % are right (Guo et al., ICML 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fanfold.tasks.predictions import Predictions
from fanfold.workflows.reporting.groups import wilson
from fanfold.workflows.reporting.style import BLUE, FAINT, REFERENCE, Picture, axes

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The predictions whose confidence lies in one interval."""

    confidence: float  # their mean
    right: int  # how many are right
    predictions: int  # how many there are


def calibration(predictions: Predictions) -> list[Bin]:
    """Predictions by confidence, in ten equal intervals from 0 to 1; empty ones are left out."""
    confidences, right = predictions.confidences.ravel().astype(np.float64), predictions.right.ravel()
    place = np.minimum((confidences * BINS).astype(int), BINS - 1)
    return [
        Bin(float(confidences[here].mean()), int(right[here].sum()), int(here.sum()))
        for here in (place == number for number in range(BINS))
        if here.any()
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: the mean difference of confidence and accuracy over the predictions."""
    apart = sum(abs(one.confidence * one.predictions - one.right) for one in bins)
    return apart / sum(one.predictions for one in bins)


def draw_calibration(bins: Sequence[Bin]) -> Picture:
    """Draw the reliability diagram, with the number of predictions of each point.

    A test's confidences are the softmax of its logits; labelling divides these by a temperature, see
    `fanfold.pipeline.calibration`.
    """
    figure, axis = axes(height=3.6)
    axis.plot((0, 100), (0, 100), label="perfect calibration", **REFERENCE)
    for one in bins:
        low, high = wilson(one.right, one.predictions)
        axis.plot([100 * one.confidence] * 2, (100 * low, 100 * high), color=BLUE, alpha=0.55)
    x, y = [100 * one.confidence for one in bins], [100 * one.right / one.predictions for one in bins]
    axis.plot(x, y, "o-", color=BLUE, markersize=4, linewidth=1, label="predictions, with 95 % interval")
    for place, one in enumerate(bins):
        axis.text(x[place], 105, f"{one.predictions:,}", ha="center", color=FAINT, fontsize=7.5)
    axis.set(xlim=(0, 104), ylim=(-3, 112), xlabel="mean confidence, %", ylabel="right predictions, %")
    axis.set_yticks(range(0, 101, 20))
    axis.legend(loc="upper left", bbox_to_anchor=(0, 0.92))
    error = 100 * expected_error(bins)
    return Picture(
        "calibration",
        "Calibration",
        f"Share of right predictions against confidence; the expected calibration error is {error:.1f} %.",
        figure,
        f"Expected calibration error {error:.1f} %, before the temperature of labelling. The numbers above are the "
        "predictions of each point.",
    )
