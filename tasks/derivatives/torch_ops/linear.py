"""A linear layer, with ReLU after it or without; see `tasks.derivatives.protocol.Linears`.

Here by PyTorch's operations; `tasks.derivatives.triton_ops.linear` has the same functions as kernels for a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from fanfold.tasks.derivatives.protocol import Into


def forward(inputs: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Tensor, Tensor | None]:
    outputs = _affine(inputs, weight, bias)
    if not relu:
        return outputs, None
    outputs = outputs.relu_()
    return outputs, outputs > 0


def backward(
    inputs: Tensor, weight: Tensor, gate: Tensor | None, d_outputs: Tensor, into: Into = None
) -> tuple[Tensor, Sequence[Tensor]]:
    d = _gated(gate, d_outputs)
    return _times_matrix(d, weight), (d.mT @ inputs, d.sum(1))


def tangent(
    inputs: Tensor, weight: Tensor, gate: Tensor | None, inputs_t: Tensor, weight_t: Tensor, bias_t: Tensor
) -> Tensor:
    return _gated(gate, _affine(inputs, weight_t, bias_t) + _affine(inputs_t, weight, None))


def backward_tangent(
    inputs: Tensor,
    weight: Tensor,
    gate: Tensor | None,
    d_outputs: Tensor,
    inputs_t: Tensor,
    weight_t: Tensor,
    d_outputs_t: Tensor,
    summed: bool,
    into: Into = None,
) -> tuple[Tensor, Sequence[Tensor]]:
    d, d_t = _gated(gate, d_outputs), _gated(gate, d_outputs_t)
    d_inputs_t = _times_matrix(d_t, weight) + _times_matrix(d, weight_t)
    if summed:
        inputs, d_t, inputs_t, d = (part.flatten(0, 1)[None] for part in (inputs, d_t, inputs_t, d))
    return d_inputs_t, (torch.baddbmm(d_t.mT @ inputs, d.mT, inputs_t), d_t.sum(1))


def _gated(gate: Tensor | None, values: Tensor) -> Tensor:
    return values if gate is None else values * gate


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Inputs `[tasks, n, d]` · weightᵀ + bias; one product where all tasks share a weight."""
    if weight.shape[0] == 1:
        return linear(inputs, weight[0], None if bias is None else bias[0])
    return inputs @ weight.mT if bias is None else torch.baddbmm(bias[:, None], inputs, weight.mT)


def _times_matrix(d_outputs: Tensor, weight: Tensor) -> Tensor:
    """d_outputs `[tasks, n, outputs]` · weight; one product where all tasks share a weight."""
    return d_outputs @ (weight[0] if weight.shape[0] == 1 else weight)
