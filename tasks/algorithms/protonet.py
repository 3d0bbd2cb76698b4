"""Prototypical Networks (Snell, Swersky and Zemel, NeurIPS 2017, arXiv:1703.05175).

A class is represented by its prototype, the mean of its support embeddings, c_k = mean f(x_i). A query is classified by
its distances from the prototypes,

    p(y = k | x) = softmax_k( -‖f(x) - c_k‖² ),

and the loss is -log p of the true class (the paper's equations 1 and 2, algorithm 1). The paper trains with more ways
than it tests with: the configuration `train.ways` = 60.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fanfold.tasks.algorithm import Algorithm, Classify, MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms.support_rotation import by_class, rotations_on
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters


@dataclass(frozen=True)
class ProtoNet(Algorithm):
    """Prototypical Networks. Published as inductive: tested with batch norm's statistics of training images.

    In training, batch norm's statistics are of all images of an episode.

    Args:
        name: The algorithm's name.
        every_turn: Whether an episode is trained on with every rotation of its support set, see
            `tasks.algorithms.support_rotation`; not in the paper.
    """

    head = False
    normalizations = ("population", "batch")
    steady = True

    name: str = "protonet"
    every_turn: bool = False

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        def task_loss(theta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_way = by_class(tasks, support, query)
            ways, images = by_way.shape[:2]
            shots = len(support) // ways
            rotations = rotations_on(by_way.device, shots, images, every=self.every_turn)
            embedding = network(theta, by_way.flatten(0, 1))
            weights = rotations.is_support.to(embedding) / shots
            prototypes = torch.einsum("td,wde->twe", weights, embedding.unflatten(0, (ways, images)))
            logits = -squared_distances(embedding, prototypes).unflatten(1, (ways, images))
            # The queries of each rotation, ordered by image, then by class.
            rotation = torch.arange(len(rotations.queries), device=logits.device)[:, None]
            logits = logits.transpose(1, 2)[rotation, rotations.queries].flatten(0, 2)
            labels = torch.arange(ways, device=logits.device).repeat(len(logits) // ways)
            return cross_entropy(logits, labels), logits, labels

        return sum_of_gradients(network, parameters, tasks, task_loss)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """Queries are embedded in one batch with the support set, as in training."""
        theta = network.unflatten(parameters)
        weights = class_masks(labels).to(support)
        weights = weights / weights.sum(1, keepdim=True)

        def classify(query: Tensor) -> Tensor:
            both = network(theta, torch.cat([support, query]))
            return -squared_distances(both[len(support) :], weights @ both[: len(support)])

        return classify


def class_masks(labels: Tensor) -> Tensor:
    """The images of each class: bool `[ways, n]`, from labels `[n]` in any order."""
    return torch.arange(int(labels.max()) + 1, device=labels.device)[:, None] == labels


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances between points `[n, d]` and others `[…, m, d]`, as `[…, n, m]`.

    Computed as ‖a‖² - 2 a·b + ‖b‖², with one matrix product. The rounding error of ‖a‖² is the same for a whole row,
    and cancels in softmax.
    """
    return (
        points.square().sum(1)[:, None] - 2 * points @ others.transpose(-1, -2) + others.square().sum(-1)[..., None, :]
    )
