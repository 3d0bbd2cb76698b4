"""Methods on embeddings that are fitted to them, without meta-training: a base class.

Beside a task's support set such a method knows the mean embedding of training pictures, and a number or two that are
chosen on validation classes. These are its meta-parameters, after those of the network, which it leaves as they are.
So it suits a frozen backbone, and the embeddings of any trained network. Arithmetic is float64.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Algorithm, Classify, MetaGradient
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten

Transform = Literal["none", "l2n", "cl2n"]
"""What is done to embeddings first, by SimpleShot's names: nothing; to unit length; centred, then to unit length."""

CENTRE = "centre"  # name of a meta-parameter: the mean embedding of training pictures, `[d]`


@dataclass(frozen=True)
class Fitted(Algorithm):
    """A method that learns a task from the embeddings of its support set. Inductive.

    Args:
        name: The algorithm's name.
        transform: What is done to embeddings first.
    """

    head = False
    normalizations = ("population",)

    name: str
    transform: Transform = "cl2n"

    @property
    def vectorizes(self) -> bool:
        """Tasks are computed one after another: a solver ends when it has converged."""
        return False

    @abstractmethod
    def grids(self) -> Mapping[str, Sequence[float]]:
        """The numbers to choose from on validation classes, by the names of meta-parameters, in the order of choice."""

    @abstractmethod
    def learn(self, points: Tensor, labels: Tensor, chosen: Mapping[str, float]) -> Classify:
        """Learn a task: from points `[n, d]` to their logits.

        Args:
            points: Transformed embeddings of the support set, float64 `[n, d]`.
            labels: int64 `[n]`, 0 … ways - 1, in any order, and of each as many as there are, at least one.
            chosen: A number for each name of `grids`.
        """

    def initialize(self, network: Network) -> Tensor:
        """The network's parameters, no centre, and the middle of each grid."""
        return self.parameters(network, network.initial(), None, {})

    def parameters(
        self, network: Network, theta: Parameters, centre: Tensor | None, chosen: Mapping[str, float]
    ) -> Tensor:
        """The meta-parameters `[P]`, with what is chosen in the place of the middle of each grid."""
        middles = {name: values[len(values) // 2] for name, values in self.grids().items()}
        own = {
            CENTRE: torch.zeros(network.outputs) if centre is None else centre,
            **{name: torch.tensor([value]) for name, value in {**middles, **chosen}.items()},
        }
        like = next(iter(theta.values()), torch.zeros(0))
        return flatten({**theta, **{name: value.to(like) for name, value in own.items()}})

    def shapes(self, network: Network) -> Shapes:
        """The network's parameters, the centre, and the chosen numbers."""
        own = dict.fromkeys(self.grids(), torch.Size([1]))
        return {**network.shapes, CENTRE: torch.Size([network.outputs]), **own}

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """There is none.

        Raises:
            FanfoldError: Always.
        """
        raise FanfoldError(f"{self.name} trains no network: freeze a backbone, or train by another algorithm.")

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        named = unflatten(self.shapes(network), parameters.detach())
        theta, centre = {name: named[name] for name in network.shapes}, named[CENTRE].double()
        chosen = {name: float(named[name]) for name in self.grids()}

        def points(images: Tensor) -> Tensor:
            embeddings = network(theta, images).double()
            if self.transform == "none":
                return embeddings
            return normalize(embeddings - centre if self.transform == "cl2n" else embeddings, dim=1)

        with torch.no_grad():
            classify = self.learn(points(support), labels, chosen)
        return lambda query: classify(points(query)).to(query.dtype)


def geometric(low: int, high: int, each: int = 2) -> tuple[float, ...]:
    """The powers of ten from one exponent to another, with `each` steps a decade."""
    return tuple(10 ** (power / each) for power in range(low * each, high * each + 1))


def fixed_or(value: float | None, grid: Sequence[float]) -> Sequence[float]:
    """The one number that was asked for, or a grid to choose from."""
    return grid if value is None else (value,)


def check_positive(**values: float | None) -> None:
    """Raise FanfoldError where a hyperparameter is not above 0; one that is None is left open."""
    for name, value in values.items():
        if value is not None and not 0 < value < inf:
            raise FanfoldError(f"`algorithm.{name}` must be above 0, not {value}.")


def balanced(labels: Tensor) -> Tensor:
    """A weight for each of `[n]` labels, by which classes count alike and all weights sum to n; 1 for equal shots."""
    counts = labels.bincount()
    return (len(labels) / (len(counts) * counts.double()))[labels]
