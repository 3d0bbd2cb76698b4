"""What follows from the patches' covariance, by kernels, as by PyTorch's operations in float64."""

import pytest

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.torch_ops import covariance, first
from tests.tasks.derivatives.triton_ops.agreement import GPU, assert_near, exact

pytest.importorskip("triton")

from fanfold.tasks.derivatives.triton_ops import covariance as fused

# tasks, images, height, width, their channels, channels, geometry
SMALL = [
    (2, 3, 9, 7, 1, 16, Geometry(3, 1, 1, 2)),
    (1, 2, 6, 6, 3, 48, Geometry(3, 2, 1, 1)),
    (2, 1, 5, 5, 1, 16, Geometry(1, 1, 0, 1)),
]
LARGE = [(32, 5, 28, 28, 1, 64, Geometry(3, 1, 1, 2)), (4, 75, 84, 84, 3, 64, Geometry(3, 1, 1, 2))]


@pytest.mark.parametrize("case", [*SMALL, *(pytest.param(case, marks=GPU) for case in LARGE)])
def test_patches_have_their_mean_and_covariance(random, poisoned, case):
    tasks, images, height, width, inside, _, geometry = case
    given = random(tasks, images, height, width, inside) + 3
    with poisoned():
        found = fused.patches_of(given, geometry)
    expected = first.patches_of(given.double(), geometry)
    assert_near((found.mean, found.covariance), (expected.mean, expected.covariance), 1e-7)


@pytest.mark.parametrize("blocks", [1, 21, fused.MOST_PARTS + 1])
@pytest.mark.parametrize("case", [SMALL[0], SMALL[1], pytest.param(LARGE[0], marks=GPU)])
def test_corrections_are_those_of_pytorchs_operations(random, parameters, poisoned, case, blocks):
    tasks, images, height, width, inside, channels, geometry = case
    patches = first.patches_of(random(tasks, images, height, width, inside), geometry)
    size = patches.mean.shape[1]
    matrix, matrix_t, scale = parameters(1, size, channels), parameters(tasks, size, channels), parameters(1, channels)
    scale_t, inverse = parameters(tasks, channels), random(tasks, channels).square() + 0.1
    parts, parts_t = (random(tasks, blocks, size + 2, channels) for _ in range(2))
    into = [parameters(tasks, *shape) for shape in ((size, channels), (channels,), (channels,))]
    with poisoned():
        moments = fused.moments(patches, matrix)
        by_parameters, back = fused.derivative(patches, moments, inverse, scale, parts)
        moments_t = fused.moments_tangent(patches, matrix, matrix_t, inverse)
        of_tangent = moments, moments_t, back, inverse, scale, scale_t, parts_t
        written = fused.derivative_tangent(patches, *of_tangent, into)
    assert all(one is other for one, other in zip(written, into, strict=True))

    there, sums, sums_t = exact(patches), *(covariance.Sums(*_split(part)) for part in (parts, parts_t))
    matrix, matrix_t, scale, scale_t, inverse = exact((matrix, matrix_t, scale, scale_t, inverse))
    expected = covariance.moments(there, matrix)
    assert_near(moments, expected)
    known, known_back = exact(moments), exact(back)
    assert_near((tuple(by_parameters), back), covariance.derivative(there, known, inverse, scale, sums))
    assert_near(moments_t, covariance.moments_tangent(there, matrix, matrix_t, inverse))
    of_tangent = known, exact(moments_t), known_back, inverse, scale, scale_t, sums_t
    assert_near(tuple(written), tuple(covariance.derivative_tangent(there, *of_tangent)))


def _split(parts):
    sums = parts.double().sum(1)
    return sums[:, :-2], sums[:, -2], sums[:, -1]
