import pytest
import torch

from tasks.gpu import norms
from tests.tasks.gpu.agreement import GPU, assert_near, exact

pytest.importorskip("triton")

from tasks.gpu import fused_norms, launches, moments
from tasks.gpu.fused_products import Products

# tasks, images, height, width, channels, pool
SMALL = [(2, 3, 7, 5, 16, 2), (1, 2, 4, 6, 48, 1), (3, 2, 2, 2, 16, 2), (1, 2, 7, 7, 32, 3)]
LARGE = [
    (32, 5, 14, 14, 64, 2),
    (512, 5, 7, 7, 64, 2),
    (32, 5, 3, 3, 64, 2),
    (4, 300, 14, 14, 64, 2),
    (2, 100, 28, 28, 64, 1),
]
CASES = [*SMALL, *(pytest.param(case, marks=GPU) for case in LARGE)]


def compute(passes, case, random, parameters):
    """All four passes, the derivatives by made-up ones."""
    tasks, images, height, width, channels, pool = case
    x, x_t = random(tasks, images, height, width, channels) + 3, random(tasks, images, height, width, channels)
    scale, shift = parameters(tasks, channels), parameters(1, channels)
    scale_t, shift_t = parameters(tasks, channels), parameters(tasks, channels)
    d_z, d_z_t = (random(tasks, images, height // pool, width // pool, channels) for _ in range(2))
    return passes(x, x_t, scale, shift, scale_t, shift_t, d_z, d_z_t, pool)


@pytest.mark.parametrize("case", CASES)
def test_passes_are_those_of_pytorchs_operations(random, parameters, poisoned, case):
    def passes(x, x_t, scale, shift, scale_t, shift_t, d_z, d_z_t, pool):
        with poisoned():
            norm = fused_norms.forward(x, scale, shift, 1e-5, pool)
            d_x, back = fused_norms.backward(norm, x, d_z, pool)
            forth = fused_norms.tangent(norm, x, x_t, scale_t, shift_t, pool)
            last = fused_norms.backward_tangent(norm, back, forth, x, x_t, d_z_t, pool)
        there = exact((norm, x, x_t, scale_t, shift_t, d_z, d_z_t))
        assert_near(norm, norms.forward(x.double(), scale.double(), shift.double(), 1e-5, pool))
        assert_near((d_x, back), norms.backward(there[0], there[1], there[5], pool))
        assert_near(forth, norms.tangent(*there[:5], pool))
        last_there = norms.backward_tangent(there[0], exact(back), exact(forth), there[1], there[2], there[6], pool)
        assert_near(last, last_there)

    compute(passes, case, random, parameters)


@pytest.mark.parametrize("case", [(2, 5, 7, 5, 16, 2)])
def test_many_parts_are_folded_before(random, parameters, monkeypatch, case):
    def passes(x, x_t, scale, shift, scale_t, shift_t, d_z, d_z_t, pool):
        norm = fused_norms.forward(x, scale, shift, 1e-5, pool)
        d_x, back = fused_norms.backward(norm, x, d_z, pool)
        forth = fused_norms.tangent(norm, x, x_t, scale_t, shift_t, pool)
        return norm, d_x, back, forth, *fused_norms.backward_tangent(norm, back, forth, x, x_t, d_z_t, pool)

    def seeded():
        generator = torch.Generator().manual_seed(1)
        return lambda *shape: torch.randn(*shape, generator=generator).to(random(1).device)

    few = compute(passes, case, seeded(), lambda *shape: torch.ones(*shape, device=random(1).device))
    for module in (launches, moments):
        monkeypatch.setattr(module, "PARTS", 1)
    many = compute(passes, case, seeded(), lambda *shape: torch.ones(*shape, device=random(1).device))
    assert_near(many, few, 1e-6)


@pytest.mark.parametrize(
    "case", [(2, 3, 7, 7, 16, 2), pytest.param(LARGE[0], marks=GPU), pytest.param(LARGE[3], marks=GPU)]
)
def test_moments_of_the_convolution_serve_as_those_of_its_outputs(random, parameters, poisoned, case):
    tasks, *_, channels, pool = case
    filters, scale = parameters(tasks, 3, 3, channels, channels), parameters(tasks, channels)
    with poisoned():
        x, moments = Products().convolve_with_moments([(random(*case[:5]) + 1, filters)], 1, 1)
        norm = fused_norms.forward(x, scale, scale, 1e-5, pool, moments)
    assert_near(norm, norms.forward(x.double(), scale.double(), scale.double(), 1e-5, pool))


def test_variances_far_from_nought_are_not_lost(random, parameters):
    x, scale = random(1, 3, 8, 8, 16) + 1000, parameters(1, 16)
    norm = fused_norms.forward(x, scale, scale, 1e-5, 2)
    assert_near(norm.inverse, norms.forward(x.double(), scale.double(), scale.double(), 1e-5, 2).inverse)


def test_what_is_not_a_number_shows(random, parameters):
    x, scale = random(2, 2, 5, 5, 16), parameters(2, 16)
    x[1, 1, 4, 4, 3] = torch.nan  # in no window, but in the channel's mean
    assert fused_norms.forward(x, scale, scale, 1e-5, 2).z.isnan().nonzero()[:, [0, 4]].unique(dim=0).tolist() == [
        [1, 3]
    ]


@pytest.mark.parametrize("case", [pytest.param(LARGE[0], marks=GPU)])
def test_passes_have_the_same_bits_in_a_graph(random, parameters, device, case):
    def passes(x, x_t, scale, shift, scale_t, shift_t, d_z, d_z_t, pool):
        def run():
            norm = fused_norms.forward(x, scale, shift, 1e-5, pool)
            d_x, back = fused_norms.backward(norm, x, d_z, pool)
            forth = fused_norms.tangent(norm, x, x_t, scale_t, shift_t, pool)
            return *norm, d_x, *back, *forth, *fused_norms.backward_tangent(norm, back, forth, x, x_t, d_z_t, pool)

        expected, graph = run(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = run()
        graph.replay()
        torch.cuda.synchronize()
        assert all(map(torch.equal, found, expected))

    compute(passes, case, random, parameters)
