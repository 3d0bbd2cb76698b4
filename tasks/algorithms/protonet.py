"""Prototypical Networks (Snell, Swersky and Zemel, NeurIPS 2017, arXiv:1703.05175).

A class is the mean of its support embeddings, its prototype c_k = mean f(x_i); a query belongs to the nearest,

    p(y = k | x) = softmax_k( -‖f(x) - c_k‖² ),

and the loss is -log p of the true class (the paper's equations 1 and 2, algorithm 1). It trains best with more ways
than it is tested with: `--train.ways 60`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import Classify, MetaGradient, Normalization, sum_of_gradients
from fanfold.tasks.algorithms.support_rotation import by_class, turns_on
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, flatten


@dataclass(frozen=True)
class ProtoNet:
    """Prototypical Networks. As published inductive: tested with batch norm's statistics of training images.

    In training, batch norm sees all images of an episode together.

    Args:
        name: The algorithm's name.
        every_turn: Whether every drawing takes its turn in the support set, see `tasks.algorithms.support_rotation`;
            the paper's is without.
    """

    head: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("population", "batch")

    name: str = "protonet"
    every_turn: bool = False

    def initialize(self, network: Network) -> Tensor:
        """The embedding's own initialization, `[P]`."""
        return flatten(network.initial())

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`."""

        def judge(theta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            images = by_class(tasks, support, query)
            ways, drawings = images.shape[:2]
            turns = turns_on(images.device, len(support) // ways, drawings, every=self.every_turn)
            embedding = network(theta, images.flatten(0, 1))
            weights = turns.is_support.to(embedding) / (len(support) // ways)
            prototypes = torch.einsum("td,wde->twe", weights, embedding.unflatten(0, (ways, drawings)))
            logits = -squared_distances(embedding, prototypes).unflatten(1, (ways, drawings))
            # Turn by turn, drawing by drawing, each of every class.
            turn = torch.arange(len(turns.queries), device=logits.device)[:, None]
            logits = logits.transpose(1, 2)[turn, turns.queries].flatten(0, 2)
            labels = torch.arange(ways, device=logits.device).repeat(len(logits) // ways)
            return cross_entropy(logits, labels), logits, labels

        return sum_of_gradients(network, parameters, tasks, judge)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`. Images are embedded together with the support set, as in training."""
        theta, ways = network.unflatten(parameters), int(labels[-1]) + 1

        def classify(query: Tensor) -> Tensor:
            of_support, of_query = network(theta, torch.cat([support, query])).split([len(support), len(query)])
            return -squared_distances(of_query, of_support.unflatten(0, (ways, -1)).mean(1))

        return classify


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances of points `[n, d]` from others `[…, m, d]`, as `[…, n, m]`.

    As ‖a‖² - 2 a·b + ‖b‖², a product of matrices: a row of the result may be off by a little rounding, alike for all
    of it.
    """
    return (
        points.square().sum(1)[:, None] - 2 * points @ others.transpose(-1, -2) + others.square().sum(-1)[..., None, :]
    )
