from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fanfold.tasks.derivatives.torch_ops import norms
from tests.tasks.derivatives.triton_ops.agreement import GPU, assert_near, behind_relu, exact

pytest.importorskip("triton")

from fanfold.tasks.derivatives.triton_ops import launches, moments
from fanfold.tasks.derivatives.triton_ops import norms as fused_norms
from fanfold.tasks.derivatives.triton_ops.products import Products

# tasks, images, height, width, channels, pool
SMALL = [(2, 3, 7, 5, 16, 2), (1, 2, 4, 6, 48, 1), (1, 2, 7, 7, 16, 3)]
LARGE = [
    (32, 5, 14, 14, 64, 2),
    (512, 5, 7, 7, 64, 2),
    (32, 5, 3, 3, 64, 2),
    (4, 300, 14, 14, 64, 2),
    (2, 100, 28, 28, 64, 1),
]


class Given(NamedTuple):
    x: Tensor
    x_t: Tensor
    scale: Tensor
    shift: Tensor
    scale_t: Tensor
    shift_t: Tensor
    d_z: Tensor
    d_z_t: Tensor


@pytest.fixture
def given(random, parameters):
    """Makes what passes start from."""

    def make(case):
        tasks, images, height, width, channels, pool = case
        x, x_t = random(tasks, images, height, width, channels) + 3, random(tasks, images, height, width, channels)
        of_channels = [parameters(many, channels) for many in (tasks, 1, tasks, tasks)]
        d_z, d_z_t = (random(tasks, images, height // pool, width // pool, channels) for _ in range(2))
        return Given(x, x_t, *of_channels, d_z, d_z_t)

    return make


def moments_of(x, rows=128):
    """As a convolution has them of its outputs."""
    blocks = x.flatten(1, 3).double().split(rows, 1)
    parts = [torch.stack([block.mean(1), block.var(1, correction=0) * block.shape[1]], 1) for block in blocks]
    return moments.Moments(torch.stack(parts, 1).float(), rows, x[0].numel() // x.shape[4])


def passes(module, start, pool, eps=1e-5):
    """All four, one after the other."""
    norm = module.forward(start.x, start.scale, start.shift, eps, pool, moments_of(start.x))
    d_x, back = module.backward(norm, start.x, start.d_z, pool)
    forth = module.tangent(norm, start.x, start.x_t, start.scale_t, start.shift_t, pool)
    return norm, d_x, back, forth, module.backward_tangent(norm, back, forth, start.x, start.x_t, start.d_z_t, pool)


@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(case, marks=GPU) for case in LARGE)])
def test_passes_are_those_of_pytorchs_operations(given, poisoned, case):
    assert_passes_are_right(given(case), case[-1], poisoned)


def test_many_parts_are_folded_before(given, poisoned, monkeypatch):
    for module in (launches, moments):
        monkeypatch.setattr(module, "PARTS", 1)
    assert_passes_are_right(given((1, 4, 7, 5, 16, 1)), 1, poisoned)


def assert_passes_are_right(start, pool, poisoned):
    with poisoned():
        norm, d_x, back, forth, last = passes(fused_norms, start, pool)
    is_open, norm = behind_relu(norm)
    there, known = exact(start), exact(norm)
    expected = norms.forward(there.x, there.scale, there.shift, 1e-5, pool)
    assert_near(norm, expected._replace(place=expected.place * is_open))
    # What was chosen where ReLU is shut says nothing any more.
    expected_d_x, expected_back = norms.backward(known, there.x, there.d_z, pool)
    assert_near((d_x, *back[1:]), (expected_d_x, *expected_back[1:]))
    expected = norms.tangent(known, there.x, there.x_t, there.scale_t, there.shift_t, pool)
    assert_near(forth._replace(u_t=forth.u_t * is_open), expected._replace(u_t=expected.u_t * is_open))
    known = known, expected_back, exact(forth)
    assert_near(last, norms.backward_tangent(*known, there.x, there.x_t, there.d_z_t, pool))


@pytest.mark.parametrize("case", [SMALL[0], pytest.param(LARGE[0], marks=GPU), pytest.param(LARGE[3], marks=GPU)])
def test_moments_of_the_convolution_serve_as_those_of_its_outputs(random, parameters, poisoned, case):
    tasks, *_, channels, pool = case
    filters, scale = parameters(tasks, 3, 3, channels, channels), parameters(tasks, channels)
    with poisoned():
        x, found = Products().convolve_with_moments([(random(*case[:5]) + 1, filters)], 1, 1)
        norm = fused_norms.forward(x, scale, scale, 1e-5, pool, found)
    is_open, norm = behind_relu(norm)
    expected = norms.forward(x.double(), scale.double(), scale.double(), 1e-5, pool)
    assert_near(norm, expected._replace(place=expected.place * is_open))


def test_variances_far_from_nought_are_not_lost(random, parameters):
    x, scale = random(1, 3, 8, 8, 16) + 1000, parameters(1, 16)
    norm = fused_norms.forward(x, scale, scale, 1e-5, 2, moments_of(x))
    assert_near(norm.inverse, norms.forward(x.double(), scale.double(), scale.double(), 1e-5, 2).inverse)


def test_what_is_not_a_number_shows(random, parameters):
    x, scale = random(2, 1, 5, 5, 16), parameters(2, 16)
    x[1, 0, 4, 4, 3] = torch.nan  # in no window, but in the channel's mean
    z = fused_norms.forward(x, scale, scale, 1e-5, 2, moments_of(x)).z
    assert z.isnan().nonzero()[:, [0, 4]].unique(dim=0).tolist() == [[1, 3]]


@pytest.mark.parametrize("case", [pytest.param(LARGE[0], marks=GPU)])
def test_passes_have_the_same_bits_in_a_graph(given, case):
    def run():
        norm, d_x, back, forth, last = passes(fused_norms, start, case[-1])
        return *norm, d_x, *back, *forth, *last

    start = given(case)
    expected, graph = run(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    graph.replay()
    torch.cuda.synchronize()
    assert all(map(torch.equal, found, expected))
