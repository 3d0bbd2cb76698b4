"""The functions of `tasks.derivatives.torch_ops.linear` as kernels for a GPU, a launch each.

Sums are float32's, whatever the precision of convolutions: there are few of them. The gate is the outputs themselves,
which are above zero where ReLU has let numbers through.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from fanfold.tasks.derivatives.protocol import Into
from fanfold.tasks.derivatives.triton_ops.launches import compiled, launch, task_stride

TILE = 16  # rows and columns of what a block computes
DEPTH = 64  # how far its sums come in a turn


def forward(inputs: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Tensor, Tensor | None]:
    outputs = _outputs([(inputs, weight)], bias, None, relu)
    return outputs, outputs if relu else None


def tangent(
    inputs: Tensor, weight: Tensor, gate: Tensor | None, inputs_t: Tensor, weight_t: Tensor, bias_t: Tensor
) -> Tensor:
    return _outputs([(inputs, weight_t), (inputs_t, weight)], bias_t, gate, relu=False)


def backward(
    inputs: Tensor, weight: Tensor, gate: Tensor | None, d_outputs: Tensor, into: Into = None
) -> tuple[Tensor, Sequence[Tensor]]:
    return _derivatives([(inputs, weight, d_outputs)], gate, into)


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
    assert not summed, "vectors are summed as a whole, by `triton_ops.vectors`"
    return _derivatives([(inputs, weight, d_outputs_t), (inputs_t, weight_t, d_outputs)], gate, into)


def _outputs(pairs: Sequence[tuple[Tensor, Tensor]], bias: Tensor, gate: Tensor | None, relu: bool) -> Tensor:
    (inputs, weight), (others, other_weight) = pairs[0], pairs[-1]
    tasks, rows, depth = inputs.shape
    columns = weight.shape[1]
    outputs = inputs.new_empty(tasks, rows, columns)
    launch(
        _affine,
        tasks * triton.cdiv(rows, TILE) * triton.cdiv(columns, TILE),
        outputs,
        inputs.contiguous(),
        weight,
        task_stride(weight),
        others.contiguous(),
        other_weight,
        task_stride(other_weight),
        bias,
        task_stride(bias),
        outputs if gate is None else gate,
        rows,
        SUMMED=depth,
        COLUMNS=columns,
        PAIRS=len(pairs),
        RELU=relu,
        GATED=gate is not None,
        TILE=TILE,
        DEPTH=DEPTH,
    )
    return outputs


def _derivatives(
    triples: Sequence[tuple[Tensor, Tensor, Tensor]], gate: Tensor | None, into: Into
) -> tuple[Tensor, Sequence[Tensor]]:
    """Of triples of inputs, weight, and derivatives by outputs, whose products are added up."""
    (inputs, weight, d_outputs), (others, other_weight, other_d_outputs) = triples[0], triples[-1]
    tasks, rows, depth = inputs.shape
    columns = weight.shape[1]
    d_inputs = inputs.new_empty(tasks, rows, depth)
    d_weight, d_bias = into or (inputs.new_empty(tasks, columns, depth), inputs.new_empty(tasks, columns))
    launch(
        _affine_derivatives,
        tasks * triton.cdiv(depth, TILE),
        d_inputs,
        d_weight,
        task_stride(d_weight),
        d_bias,
        task_stride(d_bias),
        inputs.contiguous(),
        weight,
        task_stride(weight),
        d_outputs.contiguous(),
        others.contiguous(),
        other_weight,
        task_stride(other_weight),
        other_d_outputs.contiguous(),
        d_inputs if gate is None else gate,
        rows,
        SUMMED=depth,
        COLUMNS=columns,
        PAIRS=len(triples),
        GATED=gate is not None,
        TILE=TILE,
    )
    return d_inputs, (d_weight, d_bias)


@compiled
def _affine(
    outputs: tl.tensor,
    inputs: tl.tensor,
    weights: tl.tensor,
    weight_stride: tl.tensor,
    others: tl.tensor,
    other_weights: tl.tensor,
    other_stride: tl.tensor,
    biases: tl.tensor,
    bias_stride: tl.tensor,
    gates: tl.tensor,
    rows: tl.tensor,
    SUMMED: tl.constexpr,
    COLUMNS: tl.constexpr,
    PAIRS: tl.constexpr,
    RELU: tl.constexpr,
    GATED: tl.constexpr,
    TILE: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    columns: tl.constexpr = (COLUMNS + TILE - 1) // TILE
    block = tl.program_id(0) // columns
    column = tl.program_id(0) % columns * TILE + tl.arange(0, TILE)
    blocks = tl.cdiv(rows, TILE)
    row, task = block % blocks * TILE + tl.arange(0, TILE), (block // blocks).to(tl.int64)
    total = tl.zeros((TILE, TILE), tl.float32)
    for pair in tl.static_range(PAIRS):
        start = (inputs if pair == 0 else others) + task * rows * SUMMED
        weight = (weights if pair == 0 else other_weights) + task * (weight_stride if pair == 0 else other_stride)
        for first in range(0, SUMMED, DEPTH):
            k = first + tl.arange(0, DEPTH)
            valid = (row < rows)[:, None] & (k < SUMMED)[None, :]
            of_row = tl.load(start + row[:, None] * SUMMED + k[None, :], valid, 0.0)
            valid = (column < COLUMNS)[None, :] & (k < SUMMED)[:, None]
            of_column = tl.load(weight + column[None, :] * SUMMED + k[:, None], valid, 0.0)
            total = tl.dot(of_row, of_column, total, input_precision="ieee")
    total += tl.load(biases + task * bias_stride + column, column < COLUMNS, 0.0)[None, :]
    at = task * rows * COLUMNS + row[:, None] * COLUMNS + column[None, :]
    valid = (row < rows)[:, None] & (column < COLUMNS)[None, :]
    if RELU:
        total = tl.maximum(total, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if GATED:
        total *= (tl.load(gates + at, valid, 0.0) > 0).to(tl.float32)
    tl.store(outputs + at, total, valid)


@compiled
def _gated(
    d_outputs: tl.tensor,
    gates: tl.tensor,
    task: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    rows: tl.tensor,
    COLUMNS: tl.constexpr,
    GATED: tl.constexpr,
) -> tl.tensor:
    """Derivatives by outputs, behind ReLU, `[rows, columns]`."""
    at = task * rows * COLUMNS + row[:, None] * COLUMNS + column[None, :]
    valid = (row < rows)[:, None] & (column < COLUMNS)[None, :]
    values = tl.load(d_outputs + at, valid, 0.0)
    if GATED:
        values *= (tl.load(gates + at, valid, 0.0) > 0).to(tl.float32)
    return values


@compiled
def _affine_derivatives(
    d_inputs: tl.tensor,
    d_weights: tl.tensor,
    d_weight_stride: tl.tensor,
    d_biases: tl.tensor,
    d_bias_stride: tl.tensor,
    inputs: tl.tensor,
    weights: tl.tensor,
    weight_stride: tl.tensor,
    d_outputs: tl.tensor,
    others: tl.tensor,
    other_weights: tl.tensor,
    other_stride: tl.tensor,
    other_d_outputs: tl.tensor,
    gates: tl.tensor,
    rows: tl.tensor,
    SUMMED: tl.constexpr,
    COLUMNS: tl.constexpr,
    PAIRS: tl.constexpr,
    GATED: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """For some of a task's inputs: d_inputs = Σ d · weight, d_weight = Σ dᵀ · inputs; d_bias, of the first pair."""
    blocks: tl.constexpr = (SUMMED + TILE - 1) // TILE
    number, task = tl.program_id(0) % blocks, (tl.program_id(0) // blocks).to(tl.int64)
    k = number * TILE + tl.arange(0, TILE)
    of_inputs = task * rows * SUMMED + k[None, :]
    for first in range(0, rows, TILE):
        row = first + tl.arange(0, TILE)
        total = tl.zeros((TILE, TILE), tl.float32)
        for pair in tl.static_range(PAIRS):
            weight = (weights if pair == 0 else other_weights) + task * (weight_stride if pair == 0 else other_stride)
            for start in range(0, COLUMNS, TILE):
                column = start + tl.arange(0, TILE)
                d = _gated(d_outputs if pair == 0 else other_d_outputs, gates, task, row, column, rows, COLUMNS, GATED)
                valid = (column < COLUMNS)[:, None] & (k < SUMMED)[None, :]
                of_column = tl.load(weight + column[:, None] * SUMMED + k[None, :], valid, 0.0)
                total = tl.dot(d, of_column, total, input_precision="ieee")
        tl.store(d_inputs + of_inputs + row[:, None] * SUMMED, total, (row < rows)[:, None] & (k < SUMMED)[None, :])
    for start in range(0, COLUMNS, TILE):
        column = start + tl.arange(0, TILE)
        total = tl.zeros((TILE, TILE), tl.float32)
        of_bias = tl.zeros((TILE,), tl.float32)
        for pair in tl.static_range(PAIRS):
            given = inputs if pair == 0 else others
            for first in range(0, rows, TILE):
                row = first + tl.arange(0, TILE)
                d = _gated(d_outputs if pair == 0 else other_d_outputs, gates, task, row, column, rows, COLUMNS, GATED)
                valid = (row < rows)[:, None] & (k < SUMMED)[None, :]
                of_row = tl.load(given + of_inputs + row[:, None] * SUMMED, valid, 0.0)
                total = tl.dot(tl.trans(d), of_row, total, input_precision="ieee")
                if pair == 0:
                    of_bias += tl.sum(d, 0)
        at = task * d_weight_stride + column[:, None] * SUMMED + k[None, :]
        tl.store(d_weights + at, total, (column < COLUMNS)[:, None] & (k < SUMMED)[None, :])
        if number == 0:
            tl.store(d_biases + task * d_bias_stride + column, of_bias, column < COLUMNS)
