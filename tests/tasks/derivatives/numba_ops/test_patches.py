"""What the first filters see, against PyTorch's own unfolding."""

import numpy as np
import pytest
import torch
from torch.nn.functional import unfold

from fanfold.tasks.derivatives.geometry import Geometry
from fanfold.tasks.derivatives.numba_ops.kernels import NINE
from fanfold.tasks.derivatives.numba_ops.patches import patches_of


@pytest.mark.parametrize(
    "geometry", [Geometry(3, 1, 1, 2), Geometry(3, 2, 1, 1), Geometry(3, 1, 0, 3), Geometry(5, 2, 2, 2)], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_stand_window_by_window(geometry: Geometry, channels: int) -> None:
    images = torch.rand(2, 3, channels, 13, 14)
    windows, mean, covariance = patches_of(images.movedim(2, -1).numpy(), geometry)
    height, width = geometry.outputs((13, 14))
    pool = geometry.pool
    every = unfold(images.flatten(0, 1), geometry.side, stride=geometry.stride, padding=geometry.padding)
    every = every.unflatten(0, (2, 3)).unflatten(2, (channels, -1)).transpose(2, 3).flatten(2, 3)  # [2, 3, K, places]
    size = every.shape[2]
    pictures = every.unflatten(3, (height, width))
    for row in range(height // pool):
        for column in range(width // pool):
            one = pictures[..., row * pool : (row + 1) * pool, column * pool : (column + 1) * pool].flatten(3)
            np.testing.assert_array_equal(windows[:, :, row, column, :, :size], one.transpose(2, 3))
    assert windows.shape[5] % NINE == 0
    assert not windows[..., size:].any()
    rows = every.transpose(2, 3).flatten(1, 2).double()
    torch.testing.assert_close(torch.from_numpy(mean), rows.mean(1).float())
    expected = torch.stack([of_task.T.cov(correction=0) for of_task in rows]).float()
    torch.testing.assert_close(torch.from_numpy(covariance), expected, rtol=1e-5, atol=1e-7)


def test_moments_of_many_patches_are_as_exact_as_float32_has_them() -> None:
    images = np.random.default_rng(0).random((2, 300, 28, 28, 1), dtype=np.float32) ** 4
    _, mean, covariance = patches_of(images, Geometry(3, 1, 1, 2))
    _, exact_mean, exact_covariance = patches_of(images.astype(np.float64), Geometry(3, 1, 1, 2))
    for found, exact in ((mean, exact_mean), (covariance, exact_covariance)):
        assert found.dtype == np.float32
        assert np.abs(found - exact).max() < 2**-24 * np.abs(exact).max()
