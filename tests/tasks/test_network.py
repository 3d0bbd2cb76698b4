"""Any module as a pure function: its head, what goes into it, and statistics for its batch norms."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, linear

from fanfold.data.errors import FanfoldError
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from fanfold.tasks.network import Embedded, as_network, batch_statistics, with_statistics
from fanfold.tasks.parameters import flatten, unflatten
from tests.tasks.reference import SIZE, WAYS, Headless, Small, SmallNet, make_module, make_network


def images(count=5):
    return torch.rand(count, 1, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def drawn(network):
    """Parameters that are not those of the module."""
    generator = torch.Generator().manual_seed(4)
    return {name: torch.rand(shape, generator=generator, dtype=torch.float64) for name, shape in network.shapes.items()}


class Wrapped(nn.Module):
    """A network of one's own, of layers given to it."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(images)


class AtOnce(nn.Linear):
    """A network that is a linear layer itself."""

    def __init__(self, ways):
        super().__init__(256, ways)

    def forward(self, images):
        return super().forward(images.flatten(1))


class ByHand(nn.Module):
    """Has a linear layer, but never calls it."""

    def __init__(self, ways):
        super().__init__()
        self.out = nn.Linear(256, ways)

    def forward(self, images):
        return linear(images.flatten(1), self.out.weight, self.out.bias)


def spectral(ways):
    """A last linear layer whose weight is computed from parameters of other names."""
    return Wrapped(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(256, ways)))


class Attentive(nn.Module):
    """The linear layer that it was given last is inside of its attention, and not called as a layer."""

    def __init__(self, ways):
        super().__init__()
        self.out = nn.Linear(16, ways)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, images):
        rows = images[:, 0]
        return self.out(self.attention(rows, rows, rows)[0].mean(1))


@pytest.mark.parametrize("model", [Conv4(width=4), Conv4Stride(width=4), Article(width=4, hidden=6)])
def test_features_are_what_goes_into_the_head(model):
    network, _ = make_network(model)
    assert network.ends_in_head
    assert network.head == ["head.weight", "head.bias"]
    parameters = drawn(network)
    copy = make_module(model)
    copy.load_state_dict(parameters)
    found = network.features(parameters, images())
    torch.testing.assert_close(found, copy.features(images()), rtol=1e-12, atol=1e-14)
    logits = linear(found, *(parameters[name] for name in network.head))
    torch.testing.assert_close(logits, network(parameters, images()), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("model", [Conv4(width=4), Article(width=4, hidden=6), Small()])
def test_a_network_without_head_gives_what_went_into_it(model):
    whole, _ = make_network(model)
    bare, _ = make_network(model, None)
    head = {"out.weight", "out.bias"} if model.name == "small" else {"head.weight", "head.bias"}
    assert list(bare.shapes) == [name for name in whole.shapes if name not in head]
    parameters = drawn(whole)
    own = {name: parameters[name] for name in bare.shapes}
    expected = whole.features(parameters, images())
    torch.testing.assert_close(bare(own, images()), expected, rtol=1e-12, atol=1e-14)
    assert bare.outputs == expected.shape[1]
    assert whole.outputs == WAYS


def test_taking_the_head_away_leaves_the_module_as_it_was():
    module = make_module(Small())
    before = flatten(dict(module.named_parameters()))
    as_network(module, SIZE, None)
    assert torch.equal(flatten(dict(module.named_parameters())), before)
    assert module(images()).shape == (5, WAYS)


def test_a_network_of_ones_own_without_linear_layer_stays_whole():
    bare, whole = (as_network(Headless(4).double(), SIZE, ways) for ways in (None, 4))
    assert list(bare.shapes) == list(whole.shapes)
    assert bare.outputs == 4
    assert bare.head == whole.head == []
    assert not whole.ends_in_head
    parameters = drawn(bare)
    torch.testing.assert_close(bare(parameters, images()), whole(parameters, images()), rtol=1e-12, atol=1e-14)


def test_a_linear_layer_itself_has_nothing_left_without_it():
    assert as_network(AtOnce(WAYS), SIZE, WAYS).outputs == WAYS
    with pytest.raises(FanfoldError, match="no parameters to learn"):
        as_network(AtOnce(WAYS), SIZE, None)


@pytest.mark.parametrize(
    "module",
    [AtOnce(WAYS), ByHand(WAYS), spectral(WAYS), Attentive(WAYS)],
    ids=["the layer itself", "never called", "weight computed", "attention"],
)
def test_a_network_whose_last_linear_layer_is_not_a_head_maps_images_all_the_same(module):
    network = as_network(module.double(), SIZE, WAYS)
    assert network(network.initial(), images()).shape == (5, WAYS)
    assert not network.ends_in_head


@pytest.mark.parametrize(
    ("module", "ends"),
    [
        (Wrapped(nn.Flatten(), nn.Linear(256, WAYS)), True),
        (Wrapped(nn.Flatten(), nn.Linear(256, WAYS, bias=False)), True),
        (Wrapped(nn.Flatten(), nn.Linear(256, WAYS), nn.Flatten()), True),
        (Wrapped(nn.Flatten(), nn.Linear(256, 4), nn.ReLU(), nn.Linear(4, WAYS)), True),
        (Wrapped(nn.Flatten(), nn.Linear(256, WAYS), nn.Tanh()), False),
        (
            Wrapped(nn.Flatten(), nn.Linear(256, 4), nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, WAYS, 2), nn.Flatten()),
            False,
        ),
        (Wrapped(nn.Conv2d(1, WAYS, 16), nn.Flatten()), False),
    ],
    ids=["linear", "no bias", "flattened", "two linear", "tanh after it", "convolution after it", "no linear"],
)
def test_whether_a_network_ends_in_its_last_linear_layer_is_seen(module, ends):
    assert as_network(module, SIZE, WAYS).ends_in_head is ends


@pytest.mark.parametrize("seed", range(5))
def test_dropout_does_not_hide_the_head(seed):
    torch.manual_seed(seed)
    module = Wrapped(nn.Flatten(), nn.Linear(256, 16), nn.Dropout(0.5), nn.Linear(16, WAYS))
    assert as_network(module, SIZE, WAYS).ends_in_head
    assert module.training


def test_wrapping_a_module_draws_nothing():
    """A worker wraps it when it first needs it; what it draws for dropout must not depend on when that was."""
    module = Wrapped(nn.Flatten(), nn.Linear(256, 16), nn.Dropout(0.5), nn.Linear(16, WAYS))
    torch.manual_seed(4)
    as_network(module, SIZE, WAYS)
    after = torch.rand(3)
    torch.manual_seed(4)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_network_of_known_layers_draws_nothing_with_its_head_or_without(vectorized):
    whole, bare = (as_network(make_module(Conv4(width=3)), SIZE, ways, vectorized=vectorized) for ways in (WAYS, None))
    assert not whole.draws
    assert not bare.draws
    assert whole.stack is not None
    assert (bare.stack is None) is vectorized  # no algorithm has use for it
    dropout = Wrapped(nn.Flatten(), nn.Linear(256, 16), nn.Dropout(0.5), nn.Linear(16, WAYS))
    assert as_network(dropout, SIZE, WAYS, vectorized=vectorized).draws


class Unused(SmallNet):
    def __init__(self, ways):
        super().__init__(ways)
        self.spare = nn.Parameter(torch.zeros(2))


class TiedToSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(100, WAYS)

    def forward(self, images):
        return self.out(images.flatten(1))


@pytest.mark.parametrize(
    ("module", "ways", "message"),
    [
        (SmallNet(4), 5, r"must give logits \[2, 5\] for two images, not \[2, 4\]"),
        (Wrapped(nn.Conv2d(1, 5, 3)), 5, r"must give logits \[2, 5\] for two images"),
        (Wrapped(nn.Conv2d(1, 5, 3)), None, r"must give embeddings \[2, d\] for two images"),
        (Unused(5), 5, "The model fails on images"),
        (TiedToSize(), WAYS, r"The model fails on images of shape \[2, 1, 16, 16\]"),
        (Wrapped(nn.Flatten(), nn.ReLU()), 256, "no parameters to learn.$"),
        (Wrapped(nn.Flatten(), nn.Linear(256, 5)), None, "no parameters to learn but those of its last linear layer"),
        (Wrapped(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()), 392, "keeps running statistics"),
    ],
    ids=["ways", "pictures", "pictures without head", "unused", "size", "nothing to learn", "head alone", "running"],
)
def test_a_module_that_can_not_be_trained_is_refused_with_one_line(module, ways, message):
    with pytest.raises(FanfoldError, match=message) as caught:
        as_network(module, SIZE, ways)
    assert "\n" not in str(caught.value)


def test_the_networks_own_parameters_come_first_in_a_longer_vector():
    network, parameters = make_network(Small())
    longer = torch.cat([parameters, torch.rand(7, dtype=torch.float64)])
    own = network.own(longer)
    assert list(own) == list(network.shapes)
    assert torch.equal(flatten(own), parameters)
    assert torch.equal(flatten(network.own(parameters)), parameters)


def test_named_tensors_are_views_of_the_vector():
    vector = torch.arange(8.0)
    named = unflatten({"a": torch.Size([2, 3]), "b": torch.Size([]), "c": torch.Size([1])}, vector)
    assert {name: tuple(value.shape) for name, value in named.items()} == {"a": (2, 3), "b": (), "c": (1,)}
    assert named["b"] == 6
    vector[6] = -1
    assert named["b"] == -1
    assert torch.equal(flatten(named), vector)


class Reflected(nn.Module):
    """Two convolutions with batch norm: the second one's statistics are those after the first one's norm."""

    def __init__(self, *, running=False):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3, stride=2)
        self.norm_one, self.norm_two = (nn.BatchNorm2d(width, track_running_stats=running) for width in (2, 3))

    def forward(self, images):
        hidden = self.norm_one(self.one(images)).relu()
        return self.norm_two(self.two(hidden)).relu().mean((2, 3))


def test_statistics_of_two_layers_are_those_worked_out_by_hand():
    network = as_network(Reflected().double(), SIZE, None)
    theta = drawn(network)
    found = batch_statistics(network, theta, images(6))

    one = conv2d(images(6), theta["one.weight"], theta["one.bias"])
    mean = one.mean((0, 2, 3))
    biased = ((one - mean[:, None, None]) ** 2).mean((0, 2, 3))
    count = one.numel() / 2
    normal = (one - mean[:, None, None]) / (biased[:, None, None] + 1e-5).sqrt()
    hidden = (normal * theta["norm_one.weight"][:, None, None] + theta["norm_one.bias"][:, None, None]).clamp(min=0)
    two = conv2d(hidden, theta["two.weight"], theta["two.bias"], stride=2)
    expected = {
        "norm_one.running_mean": mean,
        "norm_one.running_var": biased * count / (count - 1),
        "norm_two.running_mean": two.mean((0, 2, 3)),
        "norm_two.running_var": two.transpose(0, 1).flatten(1).var(1, correction=1),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)
        assert not found[name].requires_grad


def test_with_statistics_a_network_is_pytorchs_own_in_evaluation():
    network = as_network(Reflected().double(), SIZE, None)
    theta = drawn(network)
    statistics = batch_statistics(network, theta, images(6))
    own = Reflected(running=True).double()
    own.load_state_dict({**theta, **statistics}, strict=False)
    own.eval()
    found = with_statistics(network, statistics)(theta, images(4))
    torch.testing.assert_close(found, own(images(4)), rtol=1e-12, atol=1e-14)


def test_with_statistics_every_image_is_embedded_by_itself():
    network, parameters = make_network(Conv4(width=3), None)
    theta = network.unflatten(parameters)
    still = with_statistics(network, batch_statistics(network, theta, images(9)))
    assert network.normalizes_by_batch
    assert not still.normalizes_by_batch
    together = still(theta, images(5))
    for place in range(5):
        alone = still(theta, images(5)[place : place + 1])
        torch.testing.assert_close(alone[0], together[place], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(network(theta, images(5))[0], network(theta, images(5)[:3])[0])


def test_statistics_leave_the_network_as_it_was():
    network, parameters = make_network(Conv4(width=3), None)
    theta = network.unflatten(parameters)
    before = network(theta, images())
    statistics = batch_statistics(network, theta, images(9))
    kept = {name: value.clone() for name, value in statistics.items()}
    still = with_statistics(network, statistics)
    still.module.train()
    still(theta, images())
    network.module.eval()
    network.module.train()
    assert torch.equal(network(theta, images()), before)
    assert network.normalizes_by_batch
    assert not [hook for layer in network.module.modules() for hook in layer._forward_pre_hooks]
    assert not [name for name, _ in network.module.named_buffers()]
    for name, value in statistics.items():
        assert torch.equal(value, kept[name])
    again = batch_statistics(network, theta, images(9))
    assert all(torch.equal(again[name], value) for name, value in kept.items())


def test_an_embedded_network_hands_embeddings_on_whatever_its_parameters():
    network, parameters = make_network(Conv4(width=3), None)
    theta = network.unflatten(parameters)
    embedding = network(theta, images())
    handing_on = Embedded(**vars(network))
    assert torch.equal(handing_on(theta, embedding), embedding)
    assert handing_on.shapes == network.shapes
    assert handing_on.outputs == network.outputs
    assert network(theta, images()).shape == embedding.shape


def test_a_network_without_batch_norm_has_no_statistics():
    network, parameters = make_network(Small(norm=False), None)
    theta = network.unflatten(parameters)
    assert not network.normalizes_by_batch
    assert batch_statistics(network, theta, images()) == {}
    assert torch.equal(with_statistics(network, {})(theta, images()), network(theta, images()))
