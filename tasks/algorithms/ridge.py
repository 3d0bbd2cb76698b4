"""Ridge regression on embeddings, the base learner of R2-D2 (Bertinetto and others, ICLR 2019, arXiv:1805.08136).

The support set's embeddings X `[n, d]` are regressed on one-hot labels Y `[n, ways]` in closed form,

    W = argmin ‖X W - Y‖² + λ ‖W‖² = (XᵀX + λ I)⁻¹ Xᵀ Y = Xᵀ (X Xᵀ + λ I)⁻¹ Y

(the paper's section 3.2). By Woodbury's identity the last form inverts `[n, n]` in the place of `[d, d]`: it is taken
where there are fewer pictures than dimensions. Logits are α X' W; the paper's offset β is the same for all classes, and
changes no probability. λ and α, which the paper learns, are chosen on validation classes.

Where classes have unequal numbers of pictures, each picture's residual is weighted, so that classes count alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fanfold.tasks.algorithm import Classify
from fanfold.tasks.fitted import Fitted, Transform, balanced, check_positive, fixed_or, geometric

REGULARIZATION, SCALE = "regularization", "scale"


@dataclass(frozen=True)
class Ridge(Fitted):
    """Ridge regression. It needs no meta-training: a frozen backbone's embeddings, or those of a trained network.

    Args:
        name: The algorithm's name.
        transform: What is done to embeddings first: `cl2n` centres them by the mean of training pictures and scales
            them to unit length, `l2n` scales alone, `none` leaves them.
        regularization: λ; by default chosen on validation classes.
        scale: α, the scale of the logits; by default chosen on validation classes.
    """

    name: str = "ridge"
    transform: Transform = "cl2n"
    regularization: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        check_positive(regularization=self.regularization, scale=self.scale)

    def grids(self) -> Mapping[str, Sequence[float]]:
        return {
            REGULARIZATION: fixed_or(self.regularization, geometric(-3, 3)),
            SCALE: fixed_or(self.scale, geometric(-1, 3, 4)),
        }

    def learn(self, points: Tensor, labels: Tensor, chosen: Mapping[str, float]) -> Classify:
        weight = chosen[SCALE] * solve(points, labels, chosen[REGULARIZATION])
        return lambda query: query @ weight


def solve(points: Tensor, labels: Tensor, regularization: float) -> Tensor:
    """W `[d, ways]`, from points `[n, d]` and labels `[n]`."""
    roots = balanced(labels).sqrt()[:, None]
    x, y = roots * points, roots * one_hot(labels).to(points)
    rows, columns = x.shape
    shift = regularization * torch.eye(min(rows, columns)).to(x)
    woodbury = rows < columns
    found: Tensor = torch.linalg.solve(x @ x.T + shift if woodbury else x.T @ x + shift, y if woodbury else x.T @ y)
    return x.T @ found if woodbury else found
