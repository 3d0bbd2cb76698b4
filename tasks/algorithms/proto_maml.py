"""Proto-MAML (Triantafillou et al., "Meta-Dataset", ICLR 2020, arXiv:1903.03096).

MAML (`tasks.algorithms.maml`) with a head that begins at a task's prototypes. With c_k the mean embedding of class k,

    w_k = 2 c_k,   b_k = -‖c_k‖²,

the logits w_k · f(x) + b_k are Prototypical Networks' but for a number that all classes share (the paper's section 3).
From there, inner steps adapt the network θ and the head together. The meta-gradient goes through all of it, the
prototypes included. As no head is learned, any number of ways can be tested, and trained with.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from fanfold.tasks.algorithm import Algorithm, Classify, MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms.inner_loop import check_inner_loop, descend
from fanfold.tasks.algorithms.protonet import class_masks
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters

WEIGHT, BIAS = ":weight", ":bias"  # the head's names beside the network's


class Learnt(NamedTuple):
    """A task's network and head."""

    theta: Parameters
    weight: Tensor  # `[ways, d]`
    bias: Tensor  # `[ways]`

    def logits(self, network: Network, images: Tensor) -> Tensor:
        """Logits `[n, ways]` of images `[n, channels, height, width]`."""
        return linear(network(self.theta, images), self.weight, self.bias)


@dataclass(frozen=True)
class ProtoMaml(Algorithm):
    """Proto-MAML, exact or first-order. Transductive, as MAML: batch norm's statistics are of all queries of a task.

    Args:
        name: The algorithm's name.
        inner_lr: Inner learning rate α, of network and head.
        inner_steps: Inner gradient steps S of a task in training.
        first_order: Leave second derivatives out; the meta-gradient goes through the prototypes all the same.
    """

    head = False

    name: str = "proto-maml"
    inner_lr: float = 0.1
    inner_steps: int = 1
    first_order: bool = False

    def __post_init__(self) -> None:
        check_inner_loop(self.inner_lr, self.inner_steps)

    @property
    def vectorizes(self) -> bool:
        """Tasks are computed one after another: under `torch.vmap`, derivatives of derivatives are not right."""
        return False

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        def task_loss(theta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            how = self.inner_steps, not self.first_order
            logits = self._learn(network, theta, support, tasks.support_labels, *how).logits(network, query)
            return cross_entropy(logits, tasks.query_labels), logits, tasks.query_labels

        return sum_of_gradients(network, parameters, tasks, task_loss)

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        found = self.adapted(network, parameters, support, labels, steps)
        learnt = Learnt({name: found[name] for name in network.shapes}, found[WEIGHT], found[BIAS])
        return lambda query: learnt.logits(network, query)

    def adapted(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Parameters:
        """Of embeddings, which a frozen network gives, the network stays as it is: the head alone learns."""
        steps = self.inner_steps if steps is None else steps
        with torch.enable_grad():
            theta = {name: value.requires_grad_() for name, value in network.unflatten(parameters.detach()).items()}
            learnt = self._learn(network, theta, support, labels, steps, exact=False)
        found = {**learnt.theta, WEIGHT: learnt.weight, BIAS: learnt.bias}
        return {name: value.detach() for name, value in found.items()}

    def _learn(
        self, network: Network, theta: Parameters, support: Tensor, labels: Tensor, steps: int, exact: bool
    ) -> Learnt:
        """Network and head after some inner steps from the prototypes."""
        masks = class_masks(labels).to(support)
        embeddings = network(theta, support)
        prototypes = masks / masks.sum(1, keepdim=True) @ embeddings
        learnt = Learnt(theta, 2 * prototypes, -prototypes.square().sum(1))
        rates = dict.fromkeys([*theta, WEIGHT, BIAS], self.inner_lr)
        for step in range(steps):
            if step:
                embeddings = network(learnt.theta, support)
            gradient = _support_gradient(embeddings, masks.T, learnt, exact)
            moved = descend({**learnt.theta, WEIGHT: learnt.weight, BIAS: learnt.bias}, gradient, rates)
            learnt = Learnt({name: moved[name] for name in theta}, moved[WEIGHT], moved[BIAS])
        return learnt


def _support_gradient(embeddings: Tensor, targets: Tensor, learnt: Learnt, exact: bool) -> Parameters:
    """The gradient of the mean cross-entropy by network and head, each by itself.

    The head depends on the network by the prototypes, and a gradient by PyTorch would go on through them. So the loss's
    derivative d by the logits is written out, and the network is differentiated in the direction d · weight.

    Args:
        embeddings: `[n, d]`, of the support images by the learnt network.
        targets: `[n, ways]`, one at each image's label, zero elsewhere.
        learnt: Network and head.
        exact: Whether PyTorch can differentiate the gradient.
    """
    d = (linear(embeddings, learnt.weight, learnt.bias).softmax(1) - targets) / len(targets)
    theta = list(learnt.theta.values())
    if embeddings.requires_grad:
        by_network = torch.autograd.grad(embeddings, theta, d @ learnt.weight, create_graph=exact, retain_graph=True)
    else:  # embeddings that were given
        by_network = tuple(map(torch.zeros_like, theta))
    found = {**dict(zip(learnt.theta, by_network, strict=True)), WEIGHT: d.T @ embeddings, BIAS: d.sum(0)}
    return found if exact else {name: value.detach() for name, value in found.items()}
