"""The compiled passes' sums over very many places, float32 beside float64; what they sum, the layers' tests see."""

from typing import TypeVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.numba_ops import kernels
from fanfold.tasks.derivatives.numba_ops.kernels import Array
from fanfold.tasks.derivatives.numba_ops.patches import patches_of

Parts = TypeVar("Parts", kernels.Forward, kernels.Backward, kernels.Tangent)


def test_batch_norms_sums_are_as_exact_as_float32_has_them() -> None:
    roll = np.random.default_rng(0)
    x, x_t = (roll.random((400, 20, 20, 4), dtype=np.float32) for _ in range(2))
    d_z, d_z_t = (roll.random((400, 10, 10, 4), dtype=np.float32) for _ in range(2))
    numbers = [roll.random(4, dtype=np.float32) + 1 for _ in range(4)]
    norm = kernels.forward(x, *numbers[:2], 1e-5, 2)
    exact_norm = kernels.forward(_exact(x), *map(_exact, numbers[:2]), 1e-5, 2)
    _assert_near(norm.mean, exact_norm.mean)
    _assert_near(norm.inverse, exact_norm.inverse)

    exact_norm = _exactly(norm)  # from here on the same numbers go in
    _, back = kernels.backward(norm, x, d_z, 2)
    _, exact_back = kernels.backward(exact_norm, _exact(x), _exact(d_z), 2)
    _assert_near(back.d_scale, exact_back.d_scale)
    _assert_near(back.d_shift, exact_back.d_shift)

    forth = kernels.tangent(norm, x, x_t, *numbers[2:], 2)
    exact_forth = kernels.tangent(exact_norm, _exact(x), _exact(x_t), *map(_exact, numbers[2:]), 2)
    _assert_near(forth.mean_t, exact_forth.mean_t)
    _, d_scale_t, d_shift_t = kernels.backward_tangent(norm, back, forth, x, x_t, d_z_t, 2)
    exact_arguments = _exactly(norm), _exactly(back), _exactly(forth), _exact(x), _exact(x_t), _exact(d_z_t)
    _, exact_scale, exact_shift = kernels.backward_tangent(*exact_arguments, 2)
    _assert_near(d_scale_t, exact_scale)
    _assert_near(d_shift_t, exact_shift)


def test_the_first_filters_sums_are_as_exact_as_float32_has_them() -> None:
    roll = np.random.default_rng(0)
    windows, _, _ = patches_of(roll.random((1, 400, 20, 20, 1), dtype=np.float32), Geometry(3, 1, 1, 2))
    weight = roll.random((1, kernels.NINE, 4), dtype=np.float32)
    mean, variance, scale, shift = (roll.random(4, dtype=np.float32) + 1 for _ in range(4))
    norm = kernels.first_forward(windows, weight, mean, variance, scale, shift, 1e-5)
    d_z = roll.random(norm.z.shape, dtype=np.float32)
    found, _ = kernels.first_backward(norm, windows, d_z)
    exact, _ = kernels.first_backward(_exactly(norm), _exact(windows), _exact(d_z))
    _assert_near(found, exact)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_moments_are_those_of_float64_also_far_from_zero(rows: int, mean: float, deviation: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(mean, deviation, (rows, 3)).astype(np.float32)
    found, variance = kernels.moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(found, exact.mean(0), rtol=1e-5, atol=1e-5 * deviation)
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-3, atol=1e-6 * deviation**2)


def _exact(array: Array) -> Array:
    return array.astype(np.float64)


def _exactly(parts: Parts) -> Parts:
    """The same numbers in float64; places stay what they are."""
    return parts._replace(**{name: _exact(part) for name, part in parts._asdict().items() if part.dtype == np.float32})


def _assert_near(found: Array, exact: Array) -> None:
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 1e-6 * np.abs(exact).max()
