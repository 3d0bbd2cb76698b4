import pytest
import torch
from torch import nn

from fanfold.data.errors import FanfoldError
from fanfold.tasks.models import Article, Conv4, Conv4Stride, PluginModel, ResNet12, build_network, handed_over
from fanfold.tasks.network import as_network
from fanfold.tasks.parameters import flatten

CONVOLUTIONS = 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64


class Tiny(nn.Module):
    def __init__(self, ways, hidden=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(hidden), nn.Linear(hidden, ways))
        self.layers(torch.zeros(1, 1, 28, 28))

    def forward(self, images):
        return self.layers(images)


class Running(Tiny):
    def __init__(self, ways):
        super().__init__(ways)
        self.norm = nn.BatchNorm2d(1)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (Conv4(), CONVOLUTIONS + 65 * 5),
        (Conv4Stride(), CONVOLUTIONS + 65 * 5),
        (Conv4Stride(reduce="flatten"), CONVOLUTIONS + 257 * 5),
        (Article(), 64 * 9 + 64 * 64 * 9 + 2 * 2 * 64 + 3137 * 256 + 257 * 5),
    ],
)
def test_networks_are_those_of_the_papers(model, parameters):
    network = as_network(model.build(5, (28, 28)), (28, 28), 5)
    vector = flatten(dict(network.module.named_parameters()))
    assert len(vector) == parameters
    assert network.normalizes_by_batch
    assert network.ends_in_head
    assert network(network.unflatten(vector), torch.rand(7, 1, 28, 28)).shape == (7, 5)


@pytest.mark.parametrize("model", [Conv4(width=4), Conv4Stride(width=4), Article(width=4, hidden=6)])
def test_a_network_takes_its_parameters_from_the_flat_vector(model):
    network = as_network(model.build(5, (28, 28)), (28, 28), 5)
    images, vector = torch.rand(3, 1, 28, 28), torch.rand(len(flatten(network.initial())))
    copy = model.build(5, (28, 28))
    copy.load_state_dict(network.unflatten(vector))
    torch.testing.assert_close(network(network.unflatten(vector), images), copy(images))
    assert torch.equal(flatten(network.unflatten(vector)), vector)


def test_a_network_of_ones_own_is_found_by_name():
    module = PluginModel("tests.tasks.test_models:Tiny", {"hidden": 2}).build(4, (28, 28))
    assert isinstance(module, Tiny)
    assert not as_network(module, (28, 28), 4).normalizes_by_batch
    assert module(torch.zeros(2, 1, 28, 28)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("tests.nowhere:Tiny", {}, "No model 'tests.nowhere:Tiny'"),
        ("tests.tasks.test_models:Absent", {}, "No model .*Absent"),
        ("tests.tasks.test_models:Tiny", {"depth": 2}, "can't be built as Tiny.*depth"),
        ("pathlib:Path", {}, "must be a class that subclasses torch.nn.Module"),
        ("torch.hub:load", {"source": "local"}, "must be a class that subclasses torch.nn.Module"),
    ],
)
def test_a_network_that_can_not_be_had_is_said(name, arguments, message):
    with pytest.raises(FanfoldError, match=message):
        PluginModel(name, arguments).build(5, (28, 28))


def test_images_that_are_too_small_for_a_network_are_to_be_prepared_larger():
    for model in (Conv4(), ResNet12(widths="4-4-4-4")):
        with pytest.raises(
            FanfoldError, match=r"^The model can't be built .* 12 × 12: .*; prepare larger ones, by `data"
        ):
            build_network(model, 5, (12, 12), 0)


def test_a_class_that_was_handed_over_is_called_by_its_name():
    class Bad(nn.Module):
        def __init__(self):
            super().__init__()

    with pytest.raises(FanfoldError, match=r"^The model Bad can't be built as Bad\(ways=…\): .*'ways'"):
        handed_over(Bad).build(2, (28, 28))


def test_running_statistics_are_refused_where_a_head_is_learnt():
    with pytest.raises(FanfoldError, match=r"'norm' .BatchNorm2d. keeps running statistics"):
        as_network(Running(5), (28, 28), 5)


class Normed(nn.Module):
    """Two convolutions, each with running statistics."""

    def __init__(self, ways=2):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))
        self.second = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, ways)

    def forward(self, images):
        return self.head(self.second(self.first(images)).mean((2, 3)))


def test_running_statistics_become_the_batchs_for_metric_learners_but_for_those_of_frozen_layers():
    module = Normed()
    module.first.requires_grad_(False)
    module.first[1].running_mean += 0.5
    network = as_network(module, (8, 8), None)
    network.train(True)
    images = torch.rand(6, 1, 8, 8)
    copy = Normed()
    copy.load_state_dict(module.state_dict())
    copy.first.eval()
    copy.head = nn.Identity()
    torch.testing.assert_close(network(network.initial(), images), copy(images))
    assert list(network.batch_norms) == ["second.1"]
    assert list(network.shapes) == ["second.0.weight", "second.0.bias", "second.1.weight", "second.1.bias"]
    assert module.second[1].running_mean is not None, "the module that was given is as it was"


def test_frozen_parameters_stay_frozen():
    module = Tiny(3)
    module.layers[1].requires_grad_(False)
    network = as_network(module, (28, 28), 3)
    assert list(network.shapes) == ["layers.2.weight", "layers.2.bias"]
    assert network.frozen
    assert as_network(module, (28, 28), None).initial() == {}
    module.requires_grad_(False)
    with pytest.raises(FanfoldError, match="All parameters of the model are frozen"):
        as_network(module, (28, 28), 3)
