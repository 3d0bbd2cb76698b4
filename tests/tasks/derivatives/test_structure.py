"""Which modules are known to be stacks of layers, and which are left to PyTorch."""

import pytest
from torch import nn

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.structure import Block, Linear, Structure, structure_of
from fanfold.tasks.models import Conv4Stride
from tests.tasks.derivatives.modules import block, network_of
from tests.tasks.reference import Small


def test_a_stack_of_known_layers_is_told_layer_by_layer():
    module = Conv4Stride(width=6).build(3, (16, 16))
    found = structure_of(module)
    blocks = tuple(
        Block(
            tuple(f"features.{place}.{name}" for name in ("0.weight", "1.weight", "1.bias")),
            6,
            Geometry(3, 2, 1, 1),
            1e-5,
        )
        for place in range(4)
    )
    assert found == Structure(blocks, mean=True, linears=(Linear(("head.weight", "head.bias"), relu=False),))
    assert found.names == [name for name, _ in module.named_parameters()]


def test_pooling_and_relu_are_part_of_the_layer_before_them():
    module = nn.Sequential(block(pool=nn.MaxPool2d(3)), block(convolution=nn.Conv2d(4, 4, 5, bias=False), pool=None))
    module = nn.Sequential(module, nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    found = structure_of(module)
    assert [part.geometry for part in found.blocks] == [Geometry(3, 1, 1, 3), Geometry(5, 1, 0, 1)]
    assert not found.mean
    assert [part.relu for part in found.linears] == [True, False]


class Doubled(nn.Sequential):
    """A sequence of one's own, which does more than call one layer after the other."""

    def forward(self, images):
        return 2 * super().forward(images)


def tied(*, layer):
    """Two linear layers that are one and the same, or that share their weight."""
    one, other = nn.Linear(256, 256), nn.Linear(256, 256)
    other.weight = one.weight
    return nn.Sequential(block(), nn.Flatten(), one, nn.ReLU(), one if layer else other, nn.ReLU(), nn.Linear(256, 3))


def hooked(register):
    module = network_of(block(), 4 * 64)
    getattr(module[0][2], register)(lambda *_: None)
    return module


@pytest.mark.parametrize(
    "module",
    [
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding=1)), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding=1, bias=False, padding_mode="reflect")), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding="same", bias=False)), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, (3, 1), padding=(1, 0), bias=False)), 4 * 64),
        network_of(block(convolution=nn.Conv2d(1, 4, 3, padding=2, dilation=2, bias=False)), 4 * 64),
        network_of(block(norm=None), 4 * 64),
        network_of(block(norm=nn.GroupNorm(2, 4)), 4 * 64),
        network_of(block(norm=nn.BatchNorm2d(4, affine=False, track_running_stats=False)), 4 * 64),
        network_of(block(relu=nn.SiLU()), 4 * 64),
        network_of(block(pool=nn.MaxPool2d(2, stride=1)), 4 * 225),
        network_of(block(pool=nn.MaxPool2d(3, stride=2, padding=1)), 4 * 64),
        network_of(block(pool=nn.AvgPool2d(2)), 4 * 64),
        nn.Sequential(block(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(256, 3)),
        nn.Sequential(block(), nn.Flatten(), nn.Linear(256, 3, bias=False)),
        nn.Sequential(block(), nn.Linear(8, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(256, 3)),
        nn.Sequential(block(), nn.Flatten(), nn.Linear(256, 3), nn.Sigmoid()),
        Doubled(block(), nn.Flatten(), nn.Linear(256, 3)),
        nn.utils.parametrizations.weight_norm(nn.Linear(256, 3)),
        hooked("register_forward_hook"),
        hooked("register_forward_pre_hook"),
        hooked("register_full_backward_hook"),
        hooked("register_full_backward_pre_hook"),
        tied(layer=True),
        tied(layer=False),
        Small().build(3, (16, 16)),
    ],
    ids=lambda module: str(module)[:0],
)
def test_other_modules_are_left_to_pytorch(module):
    assert structure_of(module) is None


def test_a_plain_sequence_of_ones_own_is_a_stack():
    module = nn.Sequential(block(), nn.Identity(), nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3))
    assert tuple(structure_of(module).names) == (
        "0.0.weight",
        "0.1.weight",
        "0.1.bias",
        *(f"{n}.{w}" for n in (3, 5) for w in ("weight", "bias")),
    )
