"""Matching Networks (Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, NeurIPS 2016, arXiv:1606.04080).

A query's class is voted for by the support set, each image by its attention,

    p(y = k | x) = Σ_{i: y_i = k} a(x, x_i),   a(x, x_i) = softmax_i( s(f(x), g(x_i)) )

(the paper's equations 1 and 2), and the loss is -log p of the true class. The similarity s is the cosine times a scale
that is learned too (a bare cosine, which ends at 1, can't make the votes clear), or minus the squared Euclidean
distance.

With full context embeddings g reads the whole support set with a bidirectional LSTM, and f attends to it over some
steps (the paper's sections 2.1.1 and 2.1.2, appendices A.1 and A.2):

    g(x_i, S) = h→_i + h←_i + g'(x_i)
    ĥ_k, c_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1}),   h_k = ĥ_k + f'(x),   r_k = Σᵢ softmax_i(h_k · g(x_i)) g(x_i)

Both then depend on the order of the support set, which is class by class.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, log
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import nll_loss, normalize

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithm import Classify, MetaGradient, Normalization, sum_of_gradients, together
from fanfold.tasks.algorithms.protonet import squared_distances
from fanfold.tasks.algorithms.support_rotation import by_class, turns_on
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.network import Network
from fanfold.tasks.parameters import Parameters, Shapes, flatten, unflatten

SCALE = "log_scale"  # the logarithm of the cosine's scale, among the meta-parameters
CONTEXT = "context."  # what names of the context's parameters begin with


@dataclass(frozen=True)
class Matching:
    """Matching Networks. Inductive: tested with batch norm's statistics of training images.

    In training, batch norm sees all images of an episode together.

    Args:
        name: The algorithm's name.
        similarity: `cosine`, with a learned scale, or `euclidean`: minus the squared distance.
        scale: The cosine's scale to start from.
        full_context: Whether embeddings take the whole support set into account.
        context_steps: Steps of attention, with full context embeddings.
        every_turn: Whether every drawing takes its turn in the support set in training, see
            `tasks.algorithms.support_rotation`.
    """

    head: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    normalizations: ClassVar[tuple[Normalization, ...]] = ("population", "batch")

    name: str = "matching"
    similarity: Literal["cosine", "euclidean"] = "cosine"
    scale: float = 10.0
    full_context: bool = False
    context_steps: int = 3
    every_turn: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale < inf:
            raise FanfoldError(f"--algorithm.scale must be above 0, not {self.scale}.")
        if self.context_steps < 1:
            raise FanfoldError(f"--algorithm.context_steps must be at least 1, not {self.context_steps}.")
        if self.full_context and self.every_turn:
            raise FanfoldError(
                "Full context embeddings are those of one support set: give --algorithm.every_turn false."
            )

    @property
    def one_by_one(self) -> bool:
        """Whether tasks can't be computed side by side: `torch.vmap` can't follow an LSTM."""
        return self.full_context

    def initialize(self, network: Network) -> Tensor:
        """The embedding's own initialization, the cosine's scale, and the context's initialization."""
        tensors = network.initial()
        if self.similarity == "cosine":
            tensors[SCALE] = torch.full([1], log(self.scale))
        if self.full_context:
            context = _Context(network.outputs, self.context_steps)
            tensors |= {CONTEXT + name: value.detach() for name, value in context.named_parameters()}
        return flatten({name: tensor.to(next(iter(tensors.values()))) for name, tensor in tensors.items()})

    def meta_gradient(self, network: Network, parameters: Tensor, iteration: int, tasks: TaskBatch) -> MetaGradient:
        """See `Algorithm.meta_gradient`."""

        def judge(meta: Parameters, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if self.full_context:
                votes = self._votes(network, meta, support, tasks.support_labels, query)
                return nll_loss(votes, tasks.query_labels), votes, tasks.query_labels
            images = by_class(tasks, support, query)
            ways, drawings = images.shape[:2]
            turns = turns_on(images.device, len(support) // ways, drawings, every=self.every_turn)
            embedding = network({name: meta[name] for name in network.shapes}, images.flatten(0, 1))
            similarity = self._similarity(meta, embedding, embedding).view(ways, drawings, ways, drawings)
            votes = torch.cat(
                [
                    _votes_of_classes(similarity[:, queries][..., chosen].transpose(0, 1).flatten(0, 1))
                    for chosen, queries in zip(turns.support, turns.queries, strict=True)
                ]
            )
            labels = torch.arange(ways, device=votes.device).repeat(len(votes) // ways)
            return nll_loss(votes, labels), votes, labels

        network = replace(network, vectorized=together(self, network))
        return sum_of_gradients(network, parameters, tasks, judge, self._shapes(network))

    def classifier(
        self, network: Network, parameters: Tensor, support: Tensor, labels: Tensor, steps: int | None
    ) -> Classify:
        """See `Algorithm.classifier`. Images are embedded together with the support set, as in training."""
        meta = unflatten(self._shapes(network), parameters)
        return lambda query: self._votes(network, meta, support, labels, query)

    def _votes(self, network: Network, meta: Parameters, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
        """The queries' log p(y | x), `[n, ways]`."""
        theta = {name: meta[name] for name in network.shapes}
        of_support, of_query = network(theta, torch.cat([support, query])).split([len(support), len(query)])
        if self.full_context:
            context = _context(network.outputs, self.context_steps)
            weights = {name.removeprefix(CONTEXT): value for name, value in meta.items() if name.startswith(CONTEXT)}
            of_support, of_query = functional_call(context, weights, (of_support, of_query))
        similarity = self._similarity(meta, of_query, of_support)
        return _votes_of_classes(similarity.unflatten(1, (int(labels[-1]) + 1, -1)))

    def _similarity(self, meta: Parameters, points: Tensor, others: Tensor) -> Tensor:
        """Similarities of points `[n, d]` and others `[m, d]`, `[n, m]`."""
        if self.similarity == "euclidean":
            return -squared_distances(points, others)
        return meta[SCALE].exp() * normalize(points, dim=1) @ normalize(others, dim=1).T

    def _shapes(self, network: Network) -> Shapes:
        """The meta-parameters' names and shapes."""
        shapes = dict(network.shapes)
        if self.similarity == "cosine":
            shapes[SCALE] = torch.Size([1])
        if self.full_context:
            context = _context(network.outputs, self.context_steps)
            shapes |= {CONTEXT + name: value.shape for name, value in context.named_parameters()}
        return shapes


def _votes_of_classes(similarity: Tensor) -> Tensor:
    """The classes' log p `[n, ways]` from similarities `[n, ways, shots]` with the support set."""
    return similarity.flatten(1).log_softmax(1).view_as(similarity).logsumexp(2)


class _Context(nn.Module):
    """Full context embeddings of support `[m, d]` and queries `[n, d]`, from their embeddings of the same shapes."""

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
    """For names and shapes, and to be called with other parameters."""
    with torch.random.fork_rng(devices=[]):  # its own parameters are drawn, and must not move the worker's generator
        return _Context(width, steps)
