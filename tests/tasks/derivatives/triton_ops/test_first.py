import pytest
import torch

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.torch_ops import first
from tests.tasks.derivatives.triton_ops.agreement import GPU, assert_near, behind_relu, exact

pytest.importorskip("triton")

from fanfold.tasks.derivatives.triton_ops import first as fused_first

# tasks, images, height, width, their channels, channels, geometry
SMALL = [
    (2, 3, 9, 7, 1, 16, Geometry(3, 1, 1, 2)),
    (2, 1, 5, 6, 3, 16, Geometry(3, 1, 0, 2)),
    (1, 3, 9, 8, 1, 48, Geometry(3, 2, 1, 1)),
    (1, 2, 9, 9, 1, 16, Geometry(2, 2, 0, 2)),
]
LARGE = [
    (32, 5, 28, 28, 1, 64, Geometry(3, 1, 1, 2)),
    (512, 5, 28, 28, 1, 64, Geometry(3, 2, 1, 1)),
    (4, 300, 28, 28, 1, 64, Geometry(3, 1, 1, 2)),
    (8, 25, 84, 84, 3, 64, Geometry(3, 1, 1, 2)),
]


@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(case, marks=GPU) for case in LARGE)])
def test_passes_are_those_of_pytorchs_operations(random, parameters, poisoned, case):
    tasks, images, height, width, inside, channels, geometry = case
    seen = first.patches_of(random(tasks, images, height, width, inside), geometry)
    size = seen.mean.shape[1]
    matrix, matrix_t = parameters(tasks, size, channels), parameters(1, size, channels)
    scale, shift = parameters(tasks, channels), parameters(1, channels)
    mean, mean_t, stretch = random(tasks, channels), random(tasks, channels), random(tasks, channels)
    variance = random(tasks, channels).square() + 0.1
    scale_t, shift_t = parameters(tasks, channels), parameters(tasks, channels)
    d_z, d_z_t = (random(tasks, images, *geometry.pooled((height, width)), channels) for _ in range(2))
    with poisoned():
        norm = fused_first.forward(seen, matrix, mean, variance, scale, shift, 1e-5)
        sums, back = fused_first.backward(norm, seen, d_z)
        forth = fused_first.tangent(norm, seen, matrix_t, mean_t, stretch, scale_t, shift_t)
        sums_t = fused_first.backward_tangent(norm, back, forth, seen, d_z_t)

    seen, (is_open, norm) = exact(seen), behind_relu(norm)
    expected = first.forward(seen, *exact((matrix, mean, variance, scale, shift)), 1e-5)
    assert_near(norm._replace(place=norm.u), expected._replace(place=expected.u))
    # Of two numbers as good as equal float64 may find the other one larger, so that places may differ, seldom.
    assert (norm.place != expected.place * is_open).double().mean() < 1e-5
    there = exact(norm)
    expected_sums, expected_back = first.backward(there, seen, d_z.double())
    assert_near(_split(sums), tuple(expected_sums))
    directions = exact((matrix_t, mean_t, stretch, scale_t, shift_t))
    expected = first.tangent(there, seen, *directions)
    assert_near(forth._replace(u_t=forth.u_t * is_open), expected._replace(u_t=expected.u_t * is_open))
    expected_sums = first.backward_tangent(there, expected_back, exact(forth), seen, d_z_t.double())
    assert_near(_split(sums_t), tuple(expected_sums))


def _split(parts):
    """The sums of parts of blocks: by the matrix, by scale and by shift."""
    sums = parts.double().sum(1)
    return sums[:, :-2], sums[:, -2], sums[:, -1]


@pytest.mark.parametrize("case", [pytest.param(LARGE[0], marks=GPU)])
def test_passes_have_the_same_bits_every_time(random, parameters, device, case):
    tasks, images, height, width, inside, channels, geometry = case
    seen = first.patches_of(random(tasks, images, height, width, inside), geometry)
    matrix, scale = parameters(tasks, seen.mean.shape[1], channels), parameters(tasks, channels)
    d_z = random(tasks, images, *geometry.pooled((height, width)), channels)

    def run():
        mean, variance = torch.zeros(2, tasks, channels, device=device)
        norm = fused_first.forward(seen, matrix, mean, variance, scale, scale, 1e-5)
        return *norm, *fused_first.backward(norm, seen, d_z)

    assert all(map(torch.equal, run(), run()))
