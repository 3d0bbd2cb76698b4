"""MAML's meta-gradient by the kernels, in all its parts, against float64 by PyTorch's operations."""

from dataclasses import replace

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
from tests.tasks.derivatives.triton_ops.agreement import TensorCores

TOLERANCE = {"float32": 1e-4, "tf32x3": 1e-3}
EMULATED = replace(TORCH, products=TensorCores())  # what tf32 does to a whole gradient, which decides what is allowed


def relative_error(model, size, operations, device, steps, order):
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
    fused = as_stack(structure, network.shapes, (size, size), operations, torch.device(device))
    found = maml.meta_gradient(fused, parameters.to(device), tasks.to(device), 0.1, steps, order, 2)
    return float((found.gradient.cpu().double() - expected.gradient).norm() / expected.gradient.norm())


def test_the_meta_gradient_is_that_of_float64(device):
    operations = triton_operations("float32")
    assert relative_error(Article(width=16, hidden=16), 8, operations, device, 1, "reverse") < TOLERANCE["float32"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", [*TOLERANCE, "tf32"])
@pytest.mark.parametrize("order", ["first", "reverse", "mixed"])
@pytest.mark.parametrize("model", [Conv4(), Conv4Stride(), Article()], ids=lambda model: model.name)
def test_on_a_gpu_it_is_near_in_every_precision_for_every_network(model, order, precision):
    allowed = TOLERANCE.get(precision) or 3 * relative_error(model, 28, EMULATED, "cpu", 2, order)
    assert relative_error(model, 28, triton_operations(precision), "cuda", 2, order) < allowed


def test_what_tf32_does_to_a_whole_gradient_is_emulated_on_a_cpu():
    """It sets what is allowed on a GPU: much more than rounding, and no other direction."""
    assert 0.01 < relative_error(Article(), 28, EMULATED, "cpu", 2, "reverse") < 0.3
