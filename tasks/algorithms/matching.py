"""Matching Networks (Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, NeurIPS 2016, arXiv:1606.04080).

The probability of a class is the attention that a query pays to the support images of that class,

    p(y = k | x) = Σ_{i: y_i = k} a(x, x_i),   a(x, x_i) = softmax_i( s(f(x), g(x_i)) )

(the paper's equations 1 and 2), and the loss is -log p of the true class. The similarity s is minus the squared
Euclidean distance, or the cosine times a learned scale. The cosine alone is at most 1, which keeps the softmax flat.

With full context embeddings, g reads the whole support set with a bidirectional LSTM, and f attends to it in several
steps (the paper's sections 2.1.1 and 2.1.2, appendices A.1 and A.2):

    g(x_i, S) = h→_i + h←_i + g'(x_i)
    ĥ_k, c_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1}),   h_k = ĥ_k + f'(x),   r_k = Σᵢ softmax_i(h_k · g(x_i)) g(x_i)

Both then depend on the order of the support set, which is sorted by class.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, log
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import nll_loss, normalize

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Algorithm, Classify, MetaGradient, sum_of_gradients
from fanfold.tasks.algorithms.protonet import class_masks, squared_distances
from fanfold.tasks.algorithms.support_rotation import by_class, rotations_on
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten

SCALE = "log_scale"  # name of a meta-parameter: the logarithm of the cosine's scale
CONTEXT = "context."  # prefix of the names of the context's parameters


@dataclass(frozen=True)
class Matching(Algorithm):
    """Matching Networks. Inductive: tested with batch norm's statistics of training images.

    In training, batch norm's statistics are of all images of an episode.

    Args:
        name: The algorithm's name.
        similarity: `cosine`, with a learned scale, or `euclidean`: minus the squared distance.
        scale: Initial scale of the cosine.
        full_context: Whether embeddings depend on the whole support set.
        context_steps: Steps of attention, for full context embeddings.
        every_turn: Whether an episode is trained on with every rotation of its support set, see
            `tasks.algorithms.support_rotation`.
    """

    head = False
    normalizations = ("population", "batch")
    steady = True

    name: str = "matching"
    similarity: Literal["cosine", "euclidean"] = "cosine"
    scale: float = 10.0
    full_context: bool = False
    context_steps: int = 3
    every_turn: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale < inf:
            raise FanfoldError(f"`algorithm.scale` must be above 0, not {self.scale}.")
        if self.context_steps < 1:
            raise FanfoldError(f"`algorithm.context_steps` must be at least 1, not {self.context_steps}.")
        if self.full_context and self.every_turn:
            raise FanfoldError(
                "Full context embeddings depend on one support set: set `algorithm.full_context` or "
                "`algorithm.every_turn` to false."
            )

    @property
    def vectorizes(self) -> bool:
        return not self.full_context  # `torch.vmap` can't vectorize an LSTM

    def initialize(self, network: Network) -> Tensor:
        """The network's initial parameters, the cosine's scale, and the context's initial parameters."""
        tensors = network.initial()
        if self.similarity == "cosine":
            tensors[SCALE] = torch.full([1], log(self.scale))
        if self.full_context:
            context = _Context(network.outputs, self.context_steps)
            tensors |= {CONTEXT + name: value.detach() for name, value in context.named_parameters()}
        return flatten({name: tensor.to(next(iter(tensors.values()))) for name, tensor in tensors.items()})

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        def task_loss(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if self.full_context:
                similarity = self._similarities(network, meta, support, query)
                log_p = _attention_by_class(similarity.unflatten(1, (tasks.ways, -1)))
                return nll_loss(log_p, tasks.query_labels), log_p, tasks.query_labels
            by_way = by_class(tasks, support, query)
            ways, images = by_way.shape[:2]
            rotations = rotations_on(by_way.device, len(support) // ways, images, every=self.every_turn)
            embedding = network({name: meta[name] for name in network.shapes}, by_way.flatten(0, 1))
            similarity = self._similarity(meta, embedding, embedding).view(ways, images, ways, images)
            log_p = torch.cat(
                [
                    _attention_by_class(similarity[:, queries][..., chosen].transpose(0, 1).flatten(0, 1))
                    for chosen, queries in zip(rotations.support, rotations.queries, strict=True)
                ]
            )
            labels = torch.arange(ways, device=log_p.device).repeat(len(log_p) // ways)
            return nll_loss(log_p, labels), log_p, labels

        return sum_of_gradients(network, parameters, tasks, task_loss, self.shapes(network))

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """Queries are embedded in one batch with the support set, as in training."""
        meta, order = unflatten(self.shapes(network), parameters), labels.argsort(stable=True)
        support, masks = support[order], class_masks(labels[order])

        def classify(query: Tensor) -> Tensor:
            log_a = self._similarities(network, meta, support, query).log_softmax(1)
            return log_a[:, None].masked_fill(~masks, -inf).logsumexp(2)

        return classify

    def _similarities(self, network: Network, meta: Parameters, support: Tensor, query: Tensor) -> Tensor:
        """The queries' similarities to the support images, `[n, m]`."""
        theta = {name: meta[name] for name in network.shapes}
        both = network(theta, torch.cat([support, query]))
        of_support, of_query = both[: len(support)], both[len(support) :]
        if self.full_context:
            context = _context(network.outputs, self.context_steps)
            weights = {name.removeprefix(CONTEXT): value for name, value in meta.items() if name.startswith(CONTEXT)}
            of_support, of_query = functional_call(context, weights, (of_support, of_query))
        return self._similarity(meta, of_query, of_support)

    def _similarity(self, meta: Parameters, points: Tensor, others: Tensor) -> Tensor:
        """Similarities between points `[n, d]` and others `[m, d]`, as `[n, m]`."""
        if self.similarity == "euclidean":
            return -squared_distances(points, others)
        return meta[SCALE].exp() * normalize(points, dim=1) @ normalize(others, dim=1).T

    def shapes(self, network: Network) -> Shapes:
        """The network's parameters, the cosine's scale, and the context's parameters."""
        shapes = dict(network.shapes)
        if self.similarity == "cosine":
            shapes[SCALE] = torch.Size([1])
        if self.full_context:
            context = _context(network.outputs, self.context_steps)
            shapes |= {CONTEXT + name: value.shape for name, value in context.named_parameters()}
        return shapes


def _attention_by_class(similarity: Tensor) -> Tensor:
    """Each class's log p `[n, ways]`, from the queries' similarities to the support set `[n, ways, shots]`."""
    return similarity.flatten(1).log_softmax(1).view_as(similarity).logsumexp(2)


class _Context(nn.Module):
    """Full context embeddings of support `[m, d]` and queries `[n, d]`, from embeddings of the same shapes."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.support = nn.LSTM(width, width, bidirectional=True)
        self.query = nn.LSTMCell(2 * width, width)
        self.steps = steps

    def forward(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """g(x_i, S) and f(x, S)."""
        both = self.support(support)[0]
        support = both.unflatten(1, (2, -1)).sum(1) + support
        hidden, cell = query, torch.zeros_like(query)
        for _ in range(self.steps):
            read = (hidden @ support.T).softmax(1) @ support
            output, cell = self.query(torch.cat([query, read], 1), (hidden, cell))
            hidden = output + query
        return support, hidden


@lru_cache(maxsize=4)
def _context(width: int, steps: int) -> nn.Module:
    """The context module. It gives names and shapes, and is called with the meta-parameters."""
    with torch.random.fork_rng(devices=[]):  # its initialization must not move the worker's generator
        return _Context(width, steps)
