import pytest
import torch
from torch import nn

from fanfold.data.errors import FanfoldError
from fanfold.tasks.models import Article, Conv4, Conv4Stride, PluginModel, handed_over
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


def test_a_class_that_was_handed_over_is_called_by_its_name():
    class Bad(nn.Module):
        def __init__(self):
            super().__init__()

    with pytest.raises(FanfoldError, match=r"^The model Bad can't be built as Bad\(ways=…\): .*'ways'"):
        handed_over(Bad).build(2, (28, 28))


def test_running_statistics_are_refused():
    with pytest.raises(FanfoldError, match=r"'norm' .BatchNorm2d. keeps running statistics"):
        as_network(Running(5), (28, 28), 5)
