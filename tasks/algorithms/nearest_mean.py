"""Nearest class mean: SimpleShot (Wang, Chao, Weinberger and van der Maaten 2019, arXiv:1911.04623).

Embeddings are centred by the mean μ of training pictures, and scaled to unit length (the paper's "CL2N", section 3):

    z = (f(x) - μ) / ‖f(x) - μ‖,   c_k = mean of the z of class k's support set.

A query is of the class whose mean is nearest. So that there are probabilities, too,

    p(y = k | x) = softmax_k( -s ‖z - c_k‖² ),

with a scale s that changes no label: the one of the least cross-entropy on validation classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fanfold.tasks.algorithm import Classify
from fanfold.tasks.algorithms.protonet import class_masks, squared_distances
from fanfold.tasks.fitted import Fitted, Transform, check_positive, fixed_or, geometric

SCALE = "scale"


@dataclass(frozen=True)
class NearestMean(Fitted):
    """Nearest class mean. It needs no meta-training: a frozen backbone's embeddings, or those of a trained network.

    Args:
        name: The algorithm's name.
        transform: What is done to embeddings first: `cl2n` centres them by the mean of training pictures and scales
            them to unit length, `l2n` scales alone, `none` leaves them.
        scale: The scale s of squared distances; by default chosen on validation classes.
    """

    name: str = "nearest-mean"
    transform: Transform = "cl2n"
    scale: float | None = None

    def __post_init__(self) -> None:
        check_positive(scale=self.scale)

    def grids(self) -> Mapping[str, Sequence[float]]:
        return {SCALE: fixed_or(self.scale, geometric(-3, 3, 4))}

    def learn(self, points: Tensor, labels: Tensor, chosen: Mapping[str, float]) -> Classify:
        masks = class_masks(labels).to(points)
        means = masks / masks.sum(1, keepdim=True) @ points
        return lambda query: -chosen[SCALE] * squared_distances(query, means)
