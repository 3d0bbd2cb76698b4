"""Logistic regression on embeddings, as in Tian, Wang, Krishnan, Tenenbaum and Isola, ECCV 2020, arXiv:2003.11539.

On a task's support embeddings, a linear classifier is fitted by regularized cross-entropy (the paper's section 3), here
with a quadratic penalty:

    W, b = argmin ½ ‖W‖² - C Σᵢ log softmax(W xᵢ + b)[yᵢ].

The loss is convex: L-BFGS (SciPy's) in float64 finds its one minimum, in a bounded number of iterations. C, by
scikit-learn's name, is chosen on validation classes. W lies in the span of the embeddings, so that with fewer pictures
than dimensions the problem is solved in an orthonormal basis of that span, which changes no number of it.

Where classes have unequal numbers of pictures, each picture is weighted, so that classes count alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear, one_hot

from fanfold.tasks.algorithm import Classify
from fanfold.tasks.fitted import Fitted, Transform, balanced, check_positive, fixed_or, geometric

C = "c"
MOST_ITERATIONS = 1000
GRADIENT = 1e-8  # the largest number of the gradient at the end, of a loss whose pictures weigh at most 1


@dataclass(frozen=True)
class Logistic(Fitted):
    """Logistic regression. It needs no meta-training: a frozen backbone's embeddings, or those of a trained network.

    Args:
        name: The algorithm's name.
        transform: What is done to embeddings first: `cl2n` centres them by the mean of training pictures and scales
            them to unit length, `l2n` scales alone, `none` leaves them.
        c: C, the weight of a picture beside the penalty; by default chosen on validation classes.
    """

    name: str = "logistic"
    transform: Transform = "cl2n"
    c: float | None = None

    def __post_init__(self) -> None:
        check_positive(c=self.c)

    def grids(self) -> Mapping[str, Sequence[float]]:
        return {C: fixed_or(self.c, geometric(-2, 3, 1))}

    def learn(self, points: Tensor, labels: Tensor, chosen: Mapping[str, float]) -> Classify:
        weight, bias = solve(points, labels, chosen[C])
        return lambda query: linear(query, weight, bias)


def solve(points: Tensor, labels: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """W `[ways, d]` and b `[ways]`, from points `[n, d]` and labels `[n]`."""
    from scipy.optimize import minimize  # imported here: it takes a while, and few need it

    basis = torch.linalg.qr(points.T)[0] if len(points) < points.shape[1] else None
    x = points if basis is None else points @ basis
    targets, weights = one_hot(labels).to(x), c * balanced(labels).to(x)
    largest = max(float(weights.max()), 1.0)  # divides the loss, so that C doesn't decide how exactly it is solved
    ways, width = targets.shape[1], x.shape[1]

    def loss(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = torch.from_numpy(vector).view(ways, width + 1)
        weight, bias = both[:, :-1], both[:, -1]
        log_p = linear(x, weight, bias).log_softmax(1)
        value = 0.5 * weight.square().sum() - (weights * (targets * log_p).sum(1)).sum()
        by_logits = weights[:, None] * (log_p.exp() - targets)
        gradient = torch.cat([weight + by_logits.T @ x, by_logits.sum(0)[:, None]], 1)
        return float(value) / largest, (gradient / largest).flatten().numpy()

    limits = {"maxiter": MOST_ITERATIONS, "maxfun": 2 * MOST_ITERATIONS, "gtol": GRADIENT, "ftol": 0.0}
    start = np.zeros(ways * (width + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits).x
    both = torch.from_numpy(found).view(ways, width + 1).to(points)
    weight = both[:, :-1] if basis is None else both[:, :-1] @ basis.T
    return weight, both[:, -1]
