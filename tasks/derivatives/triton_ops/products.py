"""The products of `tasks.derivatives.torch_ops.products` as kernels for a GPU, which unfold nothing.

Each is a product of matrices. One side's rows are places, whose numbers are read where they lie in a feature map, once
for every place of the filter, a **tap**, and mostly from the cache. The products of a second pair are added to the same
sums before anything is written.

A derivative by inputs at stride 2 takes its places in four **phases**, of even and odd rows and columns. Each meets
taps of its own, so that nothing is multiplied by zeros.
"""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fanfold.data.errors import FanfoldError
from fanfold.tasks.derivatives.protocol import Pair, Triple
from fanfold.tasks.derivatives.torch_ops import products
from fanfold.tasks.derivatives.triton_ops.launches import compiled, divisor, launch, task_stride
from fanfold.tasks.derivatives.triton_ops.moments import Moments, store_moments

CHANNELS = 16  # channels come in multiples of it
MULTIPROCESSORS = 132  # of the GPU that tiles are chosen for, an H100 or H200


class Tile(NamedTuple):
    """The part of a product that a block of a kernel computes."""

    rows: int
    columns: int
    depth: int  # how far its sums come in a turn of the loop
    warps: int
    stages: int  # turns of the loop that are loaded at a time


def tile_of_places(precision: str, tasks: int, places: int, summed: int, channels: int) -> Tile:
    """The tile of `convolve` and `by_inputs`, for `places` of each task, from `summed` channels to `channels`."""
    rows = 128 if places > 64 and tasks * places >= 128 * MULTIPROCESSORS else 64
    # A tensor core's sums leave room for twice as many in a thread's registers.
    warps = 8 if rows == 128 and precision != "tf32" else 4
    columns = _columns(channels, tasks * -(-places // rows), MULTIPROCESSORS)
    return Tile(rows, columns, divisor(summed, 32), warps, _stages(precision))


def tile_of_filters(precision: str, tasks: int, side: int, inside: int, outside: int) -> Tile:
    """The tile of `by_filters`: channels in, channels out, and places in a turn."""
    rows = divisor(inside, 64)
    # Four warps have an instruction that wants both sides by places. They lie by channels, so that it would be fed four
    # bytes at a time. That of two warps takes them as they lie.
    warps = 2 if precision == "tf32" else 4
    columns = _columns(outside, tasks * side * side * (inside // rows), 4 * MULTIPROCESSORS)
    return Tile(rows, columns, 32, warps, _stages(precision))


def _stages(precision: str) -> int:
    """Without tensor cores, a turn takes longer than the loads of the next one, and three leave too few registers."""
    return 2 if precision == "ieee" else 3


def _columns(channels: int, blocks: int, wanted: int) -> int:
    """A tile's columns: fewer where there would be fewer blocks than are wanted."""
    columns = divisor(channels, 64)
    while columns > CHANNELS and blocks * (channels // columns) < wanted:
        columns //= 2
    return columns


def supports(inside: int, outside: int) -> bool:
    """Whether there are kernels for convolutions of so many channels."""
    return inside % CHANNELS == 0 and outside % CHANNELS == 0


@dataclass(frozen=True)
class Products:
    """Convolution's three products.

    The precision says how numbers are multiplied; sums are float32 always. `ieee`: as float32 are. `tf32`: by tensor
    cores, which take 11 bits of them. `tf32x3`: by tensor cores as well, in three products of such parts, nearly as
    float32 are.
    """

    precision: str = "ieee"

    lay_out = staticmethod(products.lay_out)
    restore = staticmethod(products.restore)
    of_tasks = staticmethod(products.of_tasks)
    split = staticmethod(products.split)
    join = staticmethod(products.join)

    def backward(
        self, triples: Sequence[Triple], stride: int, padding: int, into: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        inputs, filters, _ = triples[0]
        size = inputs.shape[2], inputs.shape[3]
        d_inputs = self.by_inputs([(d_outputs, filters) for _, filters, d_outputs in triples], size, stride, padding)
        pairs = [(inputs, d_outputs) for inputs, _, d_outputs in triples]
        return d_inputs, self.by_filters(pairs, filters.shape[1], stride, padding, into)

    def convolve(self, pairs: Sequence[Pair], stride: int, padding: int) -> Tensor:
        return self._convolved(pairs, stride, padding, with_moments=False)[0]

    def convolve_with_moments(self, pairs: Sequence[Pair], stride: int, padding: int) -> tuple[Tensor, Moments]:
        """The same, and the outputs' means and variances by blocks, for `triton_ops.norms.forward`."""
        return self._convolved(pairs, stride, padding, with_moments=True)

    def _convolved(
        self, pairs: Sequence[Pair], stride: int, padding: int, with_moments: bool
    ) -> tuple[Tensor, Moments]:
        tasks, images, height, width, inside = pairs[0][0].shape
        side, outside = pairs[0][1].shape[1], pairs[0][1].shape[4]
        down, across = ((part + 2 * padding - side) // stride + 1 for part in (height, width))
        outputs = pairs[0][0].new_empty(tasks, images, down, across, outside)
        places = images * down * across
        tile = tile_of_places(self.precision, tasks, places, inside, outside)
        parts = outputs.new_empty(tasks, triton.cdiv(places, tile.rows) if with_moments else 0, 2, outside)
        self._gather(outputs, parts, pairs, stride, padding, tile, phases=1, transposed=False)
        return outputs, Moments(parts, tile.rows, places)

    def by_inputs(self, pairs: Sequence[Pair], size: tuple[int, int], stride: int, padding: int) -> Tensor:
        tasks, images, _, _, outside = pairs[0][0].shape
        inside = pairs[0][1].shape[3]
        d_inputs = pairs[0][0].new_empty(tasks, images, *size, inside)
        places = images * triton.cdiv(size[0], stride) * triton.cdiv(size[1], stride)
        tile = tile_of_places(self.precision, tasks, places, outside, inside)
        parts = d_inputs.new_empty(tasks, 0)
        self._gather(d_inputs, parts, pairs, stride, padding, tile, phases=stride, transposed=True)
        return d_inputs

    def _gather(
        self,
        results: Tensor,
        parts: Tensor,
        pairs: Sequence[Pair],
        stride: int,
        padding: int,
        tile: Tile,
        phases: int,
        transposed: bool,
    ) -> None:
        """Launch the kernel of `convolve`, or of `by_inputs` where transposed."""
        (maps, filters), (others, other_filters) = pairs[0], pairs[-1]
        tasks, images, down, across, channels = results.shape
        _check(maps.shape[4], channels)
        places = images * triton.cdiv(down, phases) * triton.cdiv(across, phases)
        launch(
            _gathered,
            tasks * phases * phases * triton.cdiv(places, tile.rows) * (channels // tile.columns),
            results,
            parts,
            maps.contiguous(),
            filters,
            task_stride(filters),
            others.contiguous(),
            other_filters,
            task_stride(other_filters),
            images,
            HEIGHT=maps.shape[2],
            WIDTH=maps.shape[3],
            SUMMED=maps.shape[4],
            DOWN=down,
            ACROSS=across,
            CHANNELS=channels,
            SIDE=filters.shape[1],
            STRIDE=stride,
            PADDING=padding,
            PHASES=phases,
            TRANSPOSED=transposed,
            PAIRS=len(pairs),
            MOMENTS=parts.shape[1] > 0,
            PRECISION=self.precision,
            ROWS=tile.rows,
            COLUMNS=tile.columns,
            DEPTH=tile.depth,
            warps=tile.warps,
            stages=tile.stages,
        )

    def by_filters(
        self, pairs: Sequence[Pair], side: int, stride: int, padding: int, into: Tensor | None = None
    ) -> Tensor:
        (inputs, d_outputs), (other_inputs, other_d_outputs) = pairs[0], pairs[-1]
        tasks, images, height, width, inside = inputs.shape
        down, across, outside = d_outputs.shape[2:]
        _check(inside, outside)
        d_filters = inputs.new_empty(tasks, side, side, inside, outside) if into is None else into
        tile = tile_of_filters(self.precision, tasks, side, inside, outside)
        launch(
            _by_filters,
            tasks * side * side * (inside // tile.rows) * (outside // tile.columns),
            d_filters,
            task_stride(d_filters),
            inputs.contiguous(),
            d_outputs.contiguous(),
            other_inputs.contiguous(),
            other_d_outputs.contiguous(),
            images,
            HEIGHT=height,
            WIDTH=width,
            INSIDE=inside,
            DOWN=down,
            ACROSS=across,
            OUTSIDE=outside,
            SIDE=side,
            STRIDE=stride,
            PADDING=padding,
            PAIRS=len(pairs),
            PRECISION=self.precision,
            ROWS=tile.rows,
            COLUMNS=tile.columns,
            DEPTH=tile.depth,
            warps=tile.warps,
            stages=tile.stages,
        )
        return d_filters


def _check(inside: int, outside: int) -> None:
    if not supports(inside, outside):
        raise FanfoldError(
            f"No kernels for {inside} channels to {outside}, not multiples of {CHANNELS}: use torch_ops.products."
        )


@compiled
def _cut(values: tl.tensor) -> tl.tensor:
    """Values without the bits that a tensor core ignores.

    What is computed on the way goes to a tensor core from registers. From memory, it would be brought into the order
    that a tensor core wants by copies of four bytes.
    """
    return (values.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)


@compiled
def _gathered(
    results: tl.tensor,
    parts: tl.tensor,
    maps: tl.tensor,
    filters: tl.tensor,
    filters_stride: tl.tensor,
    others: tl.tensor,
    other_filters: tl.tensor,
    other_stride: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SUMMED: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    CHANNELS: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    PHASES: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    PAIRS: tl.constexpr,
    MOMENTS: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """Results [place, channel] = Σ maps[what the place sees through a tap, k] · filters[tap, k, channel].

    Transposed, a place of the inputs sees the outputs that it went into, and filters are [tap, channel, k].
    """
    # Blocks of a task follow one another: they read the same filters and feature maps.
    block = tl.program_id(0)
    columns: tl.constexpr = CHANNELS // COLUMNS
    column = block % columns * COLUMNS + tl.arange(0, COLUMNS)
    block = block // columns
    lines: tl.constexpr = (DOWN + PHASES - 1) // PHASES
    line: tl.constexpr = (ACROSS + PHASES - 1) // PHASES
    blocks = tl.cdiv(images * lines * line, ROWS)
    number = block % blocks
    block = block // blocks
    phase = block % (PHASES * PHASES)
    task = (block // (PHASES * PHASES)).to(tl.int64)

    place = number * ROWS + tl.arange(0, ROWS)
    image = place // (lines * line)
    y = place // line % lines * PHASES + phase // PHASES
    x = place % line * PHASES + phase % PHASES
    valid = (place < images * lines * line) & (y < DOWN) & (x < ACROSS)
    if TRANSPOSED:
        first_y, first_x = (phase // PHASES + PADDING) % STRIDE, (phase % PHASES + PADDING) % STRIDE
        top, left = (y + PADDING - first_y) // STRIDE, (x + PADDING - first_x) // STRIDE
        taps_down, taps_across = tl.cdiv(SIDE - first_y, STRIDE), tl.cdiv(SIDE - first_x, STRIDE)
    else:
        first_y, first_x = 0, 0
        top, left = y * STRIDE - PADDING, x * STRIDE - PADDING
        taps_down, taps_across = SIDE, SIDE

    size = images * (HEIGHT * WIDTH * SUMMED)
    # A tensor core's larger instructions want k last in memory of what they multiply by. Filters have it so transposed
    # only; otherwise, places have, and the product is turned round.
    total = tl.zeros((ROWS, COLUMNS) if TRANSPOSED else (COLUMNS, ROWS), tl.float32)
    for pair in tl.static_range(PAIRS):
        start = (maps if pair == 0 else others) + task * size
        matrix = (filters if pair == 0 else other_filters) + task * (filters_stride if pair == 0 else other_stride)
        for turn in range(taps_down * taps_across * (SUMMED // DEPTH)):
            tap = turn // (SUMMED // DEPTH)
            k = turn % (SUMMED // DEPTH) * DEPTH + tl.arange(0, DEPTH)
            tap_y, tap_x = tap // taps_across, tap % taps_across
            if TRANSPOSED:
                seen_y, seen_x = top - tap_y, left - tap_x
                of_tap = ((first_y + tap_y * STRIDE) * SIDE + first_x + tap_x * STRIDE) * (SUMMED * CHANNELS)
                of_filter = of_tap + column[None, :] * SUMMED + k[:, None]
            else:
                seen_y, seen_x = top + tap_y, left + tap_x
                of_filter = tap * (SUMMED * CHANNELS) + k[None, :] * CHANNELS + column[:, None]
            inside = valid & (seen_y >= 0) & (seen_y < HEIGHT) & (seen_x >= 0) & (seen_x < WIDTH)
            of_map = ((image * HEIGHT + seen_y) * WIDTH + seen_x) * SUMMED
            if TRANSPOSED:
                seen = tl.load(start + of_map[:, None] + k[None, :], inside[:, None], 0.0)
                total = tl.dot(seen, tl.load(matrix + of_filter), total, input_precision=PRECISION)
            else:
                seen = tl.load(start + of_map[None, :] + k[:, None], inside[None, :], 0.0)
                of_filters = tl.load(matrix + of_filter)
                if PRECISION == "tf32":
                    of_filters = _cut(of_filters)
                total = tl.dot(of_filters, seen, total, input_precision=PRECISION)

    if not TRANSPOSED:
        total = tl.trans(total)
    of_result = ((image * DOWN + y) * ACROSS + x) * CHANNELS
    result = results + task * images * (DOWN * ACROSS * CHANNELS)
    tl.store(result + of_result[:, None] + column[None, :], total, valid[:, None])
    if MOMENTS:
        part = parts + (task * blocks + number) * (2 * CHANNELS) + column
        count = tl.minimum(images * (DOWN * ACROSS) - number * ROWS, ROWS)
        store_moments(part, total, valid, count, CHANNELS)


@compiled
def _by_filters(
    d_filters: tl.tensor,
    d_filters_stride: tl.tensor,
    inputs: tl.tensor,
    d_outputs: tl.tensor,
    other_inputs: tl.tensor,
    other_d_outputs: tl.tensor,
    images: tl.tensor,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    INSIDE: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    OUTSIDE: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    PAIRS: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """d_filters [tap, channel in, channel out] = Σ over places of inputs[what is seen, in] · d_outputs[place, out]."""
    block = tl.program_id(0)
    columns: tl.constexpr = OUTSIDE // COLUMNS
    rows: tl.constexpr = INSIDE // ROWS
    column = block % columns * COLUMNS + tl.arange(0, COLUMNS)
    block = block // columns
    row = block % rows * ROWS + tl.arange(0, ROWS)
    block = block // rows
    tap = block % (SIDE * SIDE)
    task = (block // (SIDE * SIDE)).to(tl.int64)

    places = images * (DOWN * ACROSS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for pair in tl.static_range(PAIRS):
        start = (inputs if pair == 0 else other_inputs) + task * images * (HEIGHT * WIDTH * INSIDE)
        d_output = (d_outputs if pair == 0 else other_d_outputs) + task * images * (DOWN * ACROSS * OUTSIDE)
        for turn in range(tl.cdiv(places, DEPTH)):
            place = turn * DEPTH + tl.arange(0, DEPTH)
            valid = place < places
            seen_y = place // ACROSS % DOWN * STRIDE - PADDING + tap // SIDE
            seen_x = place % ACROSS * STRIDE - PADDING + tap % SIDE
            inside = valid & (seen_y >= 0) & (seen_y < HEIGHT) & (seen_x >= 0) & (seen_x < WIDTH)
            of_input = ((place // (DOWN * ACROSS) * HEIGHT + seen_y) * WIDTH + seen_x) * INSIDE
            seen = tl.load(start + of_input[None, :] + row[:, None], inside[None, :], 0.0)
            values = tl.load(d_output + place[:, None] * OUTSIDE + column[None, :], valid[:, None], 0.0)
            total = tl.dot(seen, values, total, input_precision=PRECISION)
    of_filter = (tap * INSIDE + row[:, None]) * OUTSIDE + column[None, :]
    tl.store(d_filters + task * d_filters_stride + of_filter, total)
