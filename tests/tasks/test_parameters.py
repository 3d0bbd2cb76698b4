import torch
from torch import nn

from fanfold.tasks.parameters import count, flatten, unflatten


def test_tensors_are_flattened_in_their_order_and_unflattened_as_views():
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "scale": torch.tensor(6.0), "bias": torch.tensor([7.0, 8.0])}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    vector = flatten(tensors)
    assert vector.tolist() == list(range(9))
    assert count(shapes) == 9
    found = unflatten(shapes, vector)
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    vector[6] = -1
    assert found["scale"] == -1


def test_the_order_is_that_of_pytorch():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 3))
    expected = nn.utils.parameters_to_vector(module.parameters())
    assert torch.equal(flatten(dict(module.named_parameters())), expected)
