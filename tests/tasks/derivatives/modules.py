"""Modules for tests of stacks: blocks of layers, changed one at a time."""

from torch import nn


def block(**changes):
    """A block of convolution, batch norm, ReLU and pooling; None leaves a layer out."""
    layers = {
        "convolution": nn.Conv2d(1, 4, 3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(4, track_running_stats=False),
        "relu": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
    } | changes
    return nn.Sequential(*[layer for layer in layers.values() if layer is not None])


def network_of(body, features):
    """A body with a linear head for three classes."""
    return nn.Sequential(body, nn.Flatten(), nn.Linear(features, 3))
