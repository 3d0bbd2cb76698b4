"""A trained algorithm, ready to learn tasks, and what it learns: a classifier that judges every image by itself.

Labelling is inductive. Batch norm's statistics are fixed before a query is seen: those of training images for learners
that embed (`tasks.network.batch_statistics`), those of the support set at the adapted parameters for learners that
adapt their network. Images go through the network in batches of one size, the last one filled up with blank images, so
that an image's logits are the same bit for bit, whatever its company.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import of_fields
from fanfold.data.pictures import MOST_SIZE
from fanfold.tasks.algorithm import Algorithm, Classify
from fanfold.tasks.backbones import unfilled
from fanfold.tasks.described import algorithm_from, described, model_from
from fanfold.tasks.flipped import FlippedModule, flipped
from fanfold.tasks.heads import Head, with_ways
from fanfold.tasks.models import Model, at_most, build_network
from fanfold.tasks.network import Embedded, Network, as_network, batch_statistics, embeddable, embedded
from fanfold.tasks.parameters import Parameters, count

BATCH = 32  # images at most that go through the network together
PIXELS = 2**17  # of them at most, a channel: one large image alone must not wait for many
MOST_STEPS = 10_000  # of a learner that is read from a file
SLACK = 2**20  # parameters that its network may be built with besides, for a head that is taken away


class Learnt(nn.Module):
    """A network with all that it learnt, and fixed statistics: images `[n, channels, height, width]` to logits.

    Args:
        network: Images to logits, or to embeddings `[n, d]`.
        judge: Embeddings to logits, a linear layer where it was adapted with the network; None for a network that gives
            logits.
    """

    def __init__(self, network: nn.Module, judge: Classify | nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.judge = network, judge

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[n, ways]`."""
        found: Tensor = self.network(images)
        return found if self.judge is None else self.judge(found)


@dataclass(frozen=True)
class _Facts:
    """A learner's facts, as they stand in a file."""

    algorithm: dict[str, Any]
    model: dict[str, Any]
    size: tuple[int, ...]
    channels: Literal[1, 3]
    ways: int | None
    steps: int | None
    head: Head
    flip: bool = False


@dataclass(frozen=True)
class Learner:
    """A trained algorithm.

    Args:
        algorithm: The algorithm.
        model: The configuration of its network.
        size: Height and width of images.
        channels: Channels of images.
        ways: Classes that its head was trained with; None for an algorithm without one.
        parameters: The meta-parameters `[P]`.
        statistics: Batch norm's statistics of training images, for algorithms that embed.
        steps: Inner steps, for algorithms that have them; None for as many as in training.
        head: The rows of its head where a task has other ways than the training, see `tasks.heads`.
        kept: What of the network isn't learnt, see `tasks.network.Network.kept`; other tensors may stand among these.
        flip: Whether what the network makes of an image is averaged over its mirror image, see `tasks.flipped`.
    """

    algorithm: Algorithm
    model: Model
    size: tuple[int, int]
    channels: int
    ways: int | None
    parameters: Tensor
    statistics: Mapping[str, Tensor]
    steps: int | None = None
    head: Head = "mean"
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    flip: bool = False
    # By ways. Shared by all that `replace` gives other parameters, statistics or heads, of which networks hold none.
    _networks: dict[int | None, Network] = field(default_factory=dict, repr=False, compare=False)

    def facts(self) -> dict[str, Any]:
        """All but the tensors, as plain values."""
        return {
            "algorithm": described(self.algorithm),
            "model": described(unfilled(self.model)),
            "size": list(self.size),
            "channels": self.channels,
            "ways": self.ways,
            "steps": self.steps,
            "head": self.head,
            "flip": self.flip,
        }

    @staticmethod
    def from_facts(
        facts: Mapping[str, Any],
        parameters: Tensor,
        statistics: Mapping[str, Tensor],
        model: Model | None = None,
        algorithm: Algorithm | None = None,
    ) -> "Learner":
        """The inverse of `facts`, with the tensors; statistics, and what is kept, may stand among other tensors.

        Raises:
            FanfoldError: Model or algorithm is none of Fanfold's, and isn't given.
            KindError: A fact is missing, unknown, or of another type.
            ValueError: A fact is out of its range, or a tensor is none of the network's.
        """
        known = of_fields(_Facts, facts, whole=False)  # older files have no `flip`
        height, width = known.size
        if not 1 <= min(height, width) <= max(height, width) <= MOST_SIZE:
            raise ValueError("the size of its images is out of range")
        kinds = algorithm_from(known.algorithm, algorithm), model_from(known.model, model)
        steps = [known.steps, *(value for name, value in known.algorithm.items() if name.endswith("steps"))]
        if not all(1 <= number <= MOST_STEPS for number in steps if number is not None):
            raise ValueError("its steps are out of range")
        if known.ways is not None and known.ways < 2:
            raise ValueError("its ways are out of range")
        if parameters.dtype != torch.float32 or parameters.ndim != 1:
            raise ValueError("its parameters are no vector of float32")
        running = {name: value for name, value in statistics.items() if name.endswith(("_mean", "_var"))}
        shape = (height, width), known.channels
        tensors = parameters, running
        found = Learner(*kinds, *shape, known.ways, *tensors, known.steps, known.head, statistics, known.flip)
        there = parameters.numel() + sum(value.numel() for value in statistics.values())
        with at_most(3 * there + SLACK):
            found._check()
        return found

    def _check(self) -> None:
        """Raise ValueError unless the tensors are those of the network."""
        network = self._trained
        if (asked := count(self.algorithm.shapes(network))) != self.parameters.numel():
            raise ValueError(f"it has {self.parameters.numel():,} parameters, where its network has {asked:,}")
        for name, layer in network.batch_norms.items() if self.embeds else ():
            for what in ("mean", "var"):
                value = self.statistics.get(f"{name}.running_{what}")
                if value is None or value.dtype != torch.float32 or value.shape != (layer.num_features,):
                    raise ValueError(f"the statistics of {name} are missing, or of another layer")
                if what == "var" and (value < 0).any():
                    raise ValueError(f"a variance of {name} is below zero")

    def network(self, ways: int | None) -> Network:
        """The network for so many classes; None for one that gives embeddings."""
        if ways not in self._networks:
            with torch.enable_grad():  # for its check
                model = unfilled(self.model) if self.kept else self.model
                built = build_network(model, ways or 2, self.size, 0, self.channels)
                network = as_network(built, self.size, ways, channels=self.channels)
                network.fill(self.kept)
                self._networks[ways] = network
        return self._networks[ways]

    @property
    def _trained(self) -> Network:
        return self.network(self.ways)

    @property
    def embeds(self) -> bool:
        """Whether an image's embedding is the same for every task. If not, the network adapts to a support set."""
        metric = self.ways is None and type(self.algorithm).adapted is Algorithm.adapted
        return metric or embeddable(self._trained)

    @cached_property
    def encoder(self) -> nn.Module:
        """Images to embeddings `[n, d]`, for algorithms that embed."""
        if embeddable(self._trained):
            return self._fixed(self.network(None), {}, {})
        return self._fixed(self._trained, self._trained.own(self.parameters), self.statistics)

    def learn(self, support: Tensor, labels: Tensor) -> Learnt:
        """Learn a task from its support set: images `[n, …]`, and labels int64 `[n]`, 0 … ways - 1, in any order.

        Raises:
            FanfoldError: The algorithm has a head, and doesn't say what the network learns, see `Algorithm.adapted`.
        """
        if self.embeds:
            return Learnt(self.encoder, self.judge(in_batches(self.encoder, support), labels))
        ways = int(labels.max()) + 1
        network = self._trained if self.ways in (None, ways) else self.network(ways)
        parameters = self._for_ways(self._trained, network)
        judging = flipped(network) if self.flip else network
        adapted = self.algorithm.adapted(judging, parameters, support, labels, self.steps)
        if adapted is None:
            raise FanfoldError(
                f"{self.algorithm.name} doesn't say what its network learns: define `adapted`, see "
                "fanfold.tasks.algorithm.Algorithm."
            )
        theta, head = ({n: v for n, v in adapted.items() if (n in network.shapes) == own} for own in (True, False))
        seen = torch.cat([support, support.flip(-1)]) if self.flip else support
        statistics = batch_statistics(network, theta, seen) if network.normalizes_by_batch else {}
        return Learnt(self._fixed(network, theta, statistics), linear_of(*head.values()) if head else None)

    def judge(self, support: Tensor, labels: Tensor) -> Classify:
        """Learn a task from embeddings `[n, d]`: queries' embeddings to their logits."""
        frozen, ways = embeddable(self._trained), int(labels.max()) + 1
        trained = embedded(self._trained) if frozen else Embedded(**vars(self._trained))
        network = trained
        if self.ways not in (None, ways):
            shapes = {name: torch.Size([ways, *shape[1:]]) for name, shape in trained.shapes.items()}
            network = replace(trained, shapes=shapes, outputs=ways)
        parameters = self._for_ways(trained, network)
        return self.algorithm.classifier(network, parameters, support, labels, self.steps)

    def filled(self, network: Network, state: Mapping[str, Tensor]) -> nn.Module:
        """A network's module with the tensors of another one's state, see `learn`."""
        return self._fixed(network, {name: state[name] for name in network.shapes}, state)

    def _fixed(self, network: Network, parameters: Parameters, statistics: Mapping[str, Tensor]) -> nn.Module:
        module = fixed(network, parameters, statistics)
        return FlippedModule(module) if self.flip else module

    def _for_ways(self, trained: Network, wanted: Network) -> Tensor:
        """The meta-parameters for a network with another head."""
        if trained is wanted:
            return self.parameters
        before, after = self.algorithm.shapes(trained), self.algorithm.shapes(wanted)
        return with_ways(self.parameters, before, after, self.head)


def fixed(network: Network, parameters: Parameters, statistics: Mapping[str, Tensor]) -> nn.Module:
    """The network's module with these parameters, its batch norms with these statistics; nothing of it is learnt."""
    module = copy.deepcopy(network.module)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name in parameters:  # it is learnt
                value.copy_(parameters[name])
    for name, layer in module.named_modules():
        if name in network.batch_norms and getattr(layer, "running_mean", None) is None:
            layer.running_mean = statistics[f"{name}.running_mean"].detach().clone()
            layer.running_var = statistics[f"{name}.running_var"].detach().clone()
    return channels_last(module).eval().requires_grad_(False)


def channels_last(module: nn.Module) -> nn.Module:
    """The module with its filters laid out with channels last, by which a CPU is 1.6 times as fast."""
    found: nn.Module = module.to(memory_format=torch.channels_last)
    return found


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer of a weight `[ways, d]` and a bias `[ways]`."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.eval().requires_grad_(False)


def in_batches(module: nn.Module, images: Tensor) -> Tensor:
    """What a module makes of images `[n, …]`, each the same whatever the others are."""
    found, size = [], batch_of(images)
    with torch.inference_mode():
        for part in images.split(size):
            missing = size - len(part)
            filled = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            found.append(module(filled.contiguous(memory_format=torch.channels_last))[: len(part)])
    return torch.cat(found)


def batch_of(images: Tensor) -> int:
    """How many of such images `[n, …, height, width]` go through a network together."""
    return max(1, min(BATCH, PIXELS // (images.shape[-1] * images.shape[-2])))
