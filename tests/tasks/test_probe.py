"""Networks of one's own of every kind, tried by the derivative that an algorithm takes."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.proto_maml import ProtoMaml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.models import build_network, handed_over
from fanfold.tasks.network import as_network
from fanfold.tasks.probe import check_training
from tests.tasks.reference import SIZE, WAYS, make_tasks

ALGORITHMS = [Maml(), Maml(first_order=True), Maml(differentiation="mixed"), MamlPlusPlus(), Anil(), Reptile()]
ALGORITHMS += [ProtoMaml(), ProtoNet()]


class Attentive(nn.Module):
    """Patches that look at each other."""

    def __init__(self, ways=WAYS, channels=1):
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, ways)

    def forward(self, images):
        found = self.patches(images).flatten(2).mT
        return self.head(self.layer(found).mean(1))


class Buffered(nn.Module):
    """A layer that is lazy, one that is frozen, a buffer that counts, and a parameter of no image's."""

    def __init__(self, ways=WAYS, channels=1):
        super().__init__()
        self.first = nn.LazyConv2d(4, 3)
        self.second = nn.Conv2d(4, 4, 3).requires_grad_(False)
        self.head = nn.LazyLinear(ways)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls += 1
        return self.head(self.second(self.first(images).tanh()).mean((2, 3)) + self.calls * 0)


class OnceOnly(nn.Module):
    """Attention by a kernel whose derivative has none."""

    def __init__(self, ways=WAYS, channels=1):
        super().__init__()
        self.head = nn.Linear(256 * channels, ways)

    def forward(self, images):
        found = self.head(images.flatten(1))[:, None, None]
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(found, found, found)[0].flatten(1)


class Complex(nn.Module):
    def __init__(self, ways=WAYS):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.complex64))
        self.head = nn.Linear(256, ways)

    def forward(self, images):
        return self.head((self.scale * images.flatten(1)).abs())


def network_of(kind, algorithm, vectorized=False):
    ways = WAYS if algorithm.head else None
    module = build_network(handed_over(kind), ways or 2, SIZE, 0)
    return as_network(module, SIZE, ways, vectorized=vectorized)


@pytest.mark.parametrize("kind", [Attentive, Buffered])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: f"{one.name}")
def test_networks_of_every_kind_train_by_every_derivative(kind, algorithm):
    for vectorized in (False, True):
        network = network_of(kind, algorithm, vectorized)
        state = torch.get_rng_state()
        check_training(algorithm, network, WAYS, SIZE, 1)
        assert torch.equal(torch.get_rng_state(), state)
        assert "second.weight" not in network.shapes


def test_attentions_second_derivatives_are_right():
    network = network_of(Attentive, Maml())
    network.train(False)  # without dropout
    tasks = make_tasks(1)
    support, query = tasks.support[0].float(), tasks.query[0].float()
    theta = {name: value.requires_grad_() for name, value in network.initial().items()}
    vector = torch.cat([value.detach().flatten() for value in theta.values()])
    found = Maml(inner_lr=0.5).meta_gradient(network, vector, 0, _float(tasks)).gradient

    def plain(query, key, value, *_, **__):
        return ((query @ key.mT) / query.shape[-1] ** 0.5).softmax(-1) @ value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", plain)
        loss = cross_entropy(network(theta, support), tasks.support_labels)
        gradient = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        moved = {name: value - 0.5 * part for (name, value), part in zip(theta.items(), gradient, strict=True)}
        loss = cross_entropy(network(moved, query), tasks.query_labels)
        wanted = torch.autograd.grad(loss, list(theta.values()))
    torch.testing.assert_close(found, torch.cat([part.flatten() for part in wanted]), rtol=1e-4, atol=1e-6)
    assert scaled_dot_product_attention is torch.nn.functional.scaled_dot_product_attention


def _float(tasks):
    return type(tasks)(tasks.support.float(), tasks.support_labels, tasks.query.float(), tasks.query_labels, WAYS)


def test_a_derivative_that_is_not_there_is_said_in_one_line():
    network = network_of(OnceOnly, Maml())
    with pytest.raises(
        FanfoldError, match=r"^maml can't train the model: its meta-gradient fails on images of 1 × 16"
    ) as it:
        check_training(Maml(), network, WAYS, SIZE, 1)
    assert "\n" not in str(it.value)
    assert len(str(it.value)) < 350
    check_training(Maml(first_order=True), network, WAYS, SIZE, 1)


def test_complex_parameters_are_refused():
    with pytest.raises(FanfoldError, match=r"'scale' is torch.complex64: only real numbers"):
        network_of(Complex, Maml())


def test_lazy_layers_have_the_seeds_numbers():
    first, second, other = (build_network(handed_over(Buffered), WAYS, SIZE, seed) for seed in (0, 0, 1))
    assert torch.equal(first.first.weight, second.first.weight)
    assert not torch.equal(first.first.weight, other.first.weight)
    assert first.training
