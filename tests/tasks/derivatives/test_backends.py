"""Which backend a network's stack is on; and that backends agree, operation by operation."""

import pytest
import torch

from fanfold.tasks.derivatives import backends
from fanfold.tasks.derivatives.backends import TORCH, numba_operations, operations_for, stack_for, tried_tasks
from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.structure import structure_of
from fanfold.tasks.models import Conv4
from tests.tasks.reference import SIZE, make_module

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NUMBA = numba_operations()


def stack(device=CPU, *, vectorized):
    module = make_module(Conv4(width=3))
    shapes = {name: value.shape for name, value in module.named_parameters()}
    return stack_for(structure_of(module), shapes, SIZE, device, vectorized=vectorized, precision="float32")


def test_a_cpu_has_numbas_operations_for_tasks_one_after_another_and_pytorchs_vectorized():
    assert stack(vectorized=False).first.operations == NUMBA
    assert stack(vectorized=True).first.operations == TORCH


def test_without_numba_and_on_a_gpu_tasks_one_after_another_are_left_to_pytorch(monkeypatch):
    assert stack(CUDA, vectorized=False) is None
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert stack(vectorized=False) is None
    assert operations_for(CUDA, "float32", [64]) is TORCH


def test_a_gpu_has_tritons_operations_where_there_are_kernels():
    pytest.importorskip("triton")
    found = operations_for(CUDA, "tf32", [64, 64])
    assert found.products.precision == "tf32"
    assert operations_for(CUDA, "float32", [64]).products.precision == "ieee"
    assert operations_for(CUDA, "float32", [64, 5]) is TORCH
    assert operations_for(CPU, "float32", [64]) is TORCH


@pytest.mark.parametrize("side", [28, 84])
def test_on_a_gpu_the_largest_tiles_are_tried_before_a_run(side):
    pytest.importorskip("triton")
    from fanfold.tasks.derivatives.triton_ops.products import tile_of_places

    few, many = tried_tasks((side, side), CUDA)
    rows = [tile_of_places("float32", tasks, 2 * (side // 2) ** 2, 64, 64).rows for tasks in (few, many, 10_000)]
    assert rows[0] < rows[1] == rows[2]
    assert tried_tasks((side, side), CPU) == (1,)


@pytest.mark.parametrize(
    "geometry", [Geometry(3, 1, 1, 2), Geometry(3, 2, 1, 1), Geometry(3, 2, 0, 1), Geometry(1, 1, 0, 1)], ids=str
)
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("shared", [(True,), (False,), (False, True)], ids=str)
def test_products_agree(geometry, tasks, shared):
    torch.manual_seed(0)
    inside, outside, images = 4, 5, 2
    how = geometry.stride, geometry.padding
    weights = [
        torch.randn(1 if one else tasks, outside, inside, geometry.side, geometry.side).double() for one in shared
    ]
    inputs = [torch.randn(tasks, images, 7, 6, inside).double() for _ in shared]
    found = []
    for products in (TORCH.products, NUMBA.products):
        maps = [products.join(part) for part in inputs]
        filters = [torch.stack([products.lay_out(of_task) for of_task in weight]) for weight in weights]
        filters = [products.of_tasks(part, maps[0]) for part in filters]
        outputs = products.convolve(list(zip(maps, filters, strict=True)), *how)
        again, _ = products.convolve_with_moments(list(zip(maps, filters, strict=True)), *how)
        assert torch.equal(products.split(outputs, outside), products.split(again, outside))
        d_outputs = [torch.cos((place + 1) * outputs) for place in range(len(shared))]
        d_inputs, d_filters = products.backward(list(zip(maps, filters, d_outputs, strict=True)), *how)
        restored = torch.stack([products.restore(of_task) for of_task in d_filters])
        found.append((products.split(outputs, outside), products.split(d_inputs, inside), restored))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_filters_and_feature_maps_are_restored_as_they_were():
    weight, maps = torch.randn(5, 4, 3, 3), torch.randn(3, 2, 7, 6, 4)
    for products in (TORCH.products, NUMBA.products):
        assert torch.equal(products.restore(products.lay_out(weight)), weight)
        assert torch.equal(products.split(products.join(maps), 4), maps)


def test_one_tasks_feature_maps_are_not_copied():
    products = NUMBA.products
    maps = products.convolve([(products.join(torch.randn(1, 2, 7, 6, 16)), torch.randn(16, 16, 3, 3))], 1, 1)
    split = products.split(maps, 16)
    assert split.data_ptr() == maps.data_ptr()
    assert products.join(split).data_ptr() == maps.data_ptr()
