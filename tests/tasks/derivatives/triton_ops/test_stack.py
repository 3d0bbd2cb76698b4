"""MAML's meta-gradient by the kernels, in all its parts, against float64 by PyTorch's operations."""

import pytest
import torch

from fanfold.tasks.algorithms import maml_vectorized as maml
from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.backends import TORCH, triton_operations
from fanfold.tasks.derivatives.stack import as_stack
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.models import Article, Conv4, Conv4Stride
from fanfold.tasks.network import as_network
from fanfold.tasks.parameters import flatten

TOLERANCE = {"ieee": 1e-4, "tf32x3": 1e-3, "tf32": 0.1}


def relative_error(model, size, precision, device, steps, order):
    """Of the meta-gradient of some tasks."""
    torch.manual_seed(0)
    module = model.build(3, (size, size))
    network = as_network(module, (size, size), 3)
    parameters, label = flatten(network.initial()), torch.arange(3)
    parameters += 0.03 * torch.randn(parameters.shape)
    images = (torch.rand(2, 2, 3, 1, size, size) > 0.7).float()
    tasks = TaskBatch(images[0], label, images[1], label)
    exact = TaskBatch(images[0].double(), label, images[1].double(), label)
    structure = structure_of(module)
    plain = as_stack(structure, network.shapes, (size, size), TORCH, torch.device("cpu"))
    expected = maml.meta_gradient(plain, parameters.double(), exact, 0.1, steps, order, 2)
    operations = triton_operations("float32" if precision == "ieee" else precision)
    fused = as_stack(structure, network.shapes, (size, size), operations, torch.device(device))
    found = maml.meta_gradient(fused, parameters.to(device), tasks.to(device), 0.1, steps, order, 2)
    return float((found.gradient.cpu().double() - expected.gradient).norm() / expected.gradient.norm())


def test_the_meta_gradient_is_that_of_float64(device):
    assert relative_error(Article(width=16, hidden=16), 8, "ieee", device, 1, "reverse") < TOLERANCE["ieee"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("order", ["first", "reverse", "mixed"])
@pytest.mark.parametrize("model", [Conv4(), Conv4Stride(), Article()], ids=lambda model: model.name)
def test_on_a_gpu_it_is_near_in_every_precision_for_every_network(model, order, precision):
    assert relative_error(model, 28, precision, "cuda", 2, order) < TOLERANCE[precision]
