"""Gathers tasks from a device's resident images in one launch; see `tasks.device.resident`."""

# ruff: noqa: N803  (in capitals what a kernel is compiled for, as is Triton's custom)

import torch
import triton
import triton.language as tl
from torch import Tensor

from fanfold.tasks.batch import TaskBatch
from fanfold.tasks.derivatives.triton_ops.launches import compiled, launch

BLOCK = 1024  # pixels at a time


def gathered(pixels: Tensor, sources: Tensor, codes: Tensor, shots: int, size: tuple[int, int], bits: int) -> TaskBatch:
    """The tasks with codes int32 `[tasks, ways, shots + queries]`, of whose low bits some are the orientation."""
    tasks, ways, images = codes.shape
    channels, places = pixels.shape[1:]
    support, query = (
        pixels.new_empty(tasks, ways * each, channels, *size, dtype=torch.float32) for each in (shots, images - shots)
    )
    labels = [pixels.new_empty(ways * each, dtype=torch.int64) for each in (shots, images - shots)]
    launch(
        _gather,
        tasks * ways * images * channels * triton.cdiv(places, BLOCK),
        support,
        query,
        *labels,
        pixels,
        sources,
        codes.contiguous(),
        ways,
        shots,
        images,
        CHANNELS=channels,
        PLACES=places,
        BITS=bits,
        BLOCK=BLOCK,
    )
    return TaskBatch(support, labels[0], query, labels[1], ways)


@compiled
def _gather(
    support: tl.tensor,
    query: tl.tensor,
    support_labels: tl.tensor,
    query_labels: tl.tensor,
    pixels: tl.tensor,
    sources: tl.tensor,
    codes: tl.tensor,
    ways: tl.tensor,
    shots: tl.tensor,
    images: tl.tensor,
    CHANNELS: tl.constexpr,
    PLACES: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    blocks: tl.constexpr = (PLACES + BLOCK - 1) // BLOCK
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    channel, number = tl.program_id(0) // blocks % CHANNELS, tl.program_id(0) // (blocks * CHANNELS)
    code = tl.load(codes + number)
    picture, orientation = (code >> BITS).to(tl.int64), code & ((1 << BITS) - 1)
    source = tl.load(sources + orientation * PLACES + place, place < PLACES, 0)
    value = tl.load(pixels + (picture * CHANNELS + channel) * PLACES + source, place < PLACES, 0).to(tl.float32)
    # As the host does: by default, a GPU divides by less than half a bit more.
    value = tl.div_rn(value, tl.full((BLOCK,), 255.0, tl.float32))
    way, image = (number // images).to(tl.int64), number % images  # the way among those of all tasks
    labelled = (channel == 0) & (way < ways)  # of the first task, for all
    if image < shots:
        row = way * shots + image
        tl.store(support + (row * CHANNELS + channel) * PLACES + place, value, place < PLACES)
        if labelled:
            tl.store(support_labels + row, way)
    else:
        row = way * (images - shots) + image - shots
        tl.store(query + (row * CHANNELS + channel) * PLACES + place, value, place < PLACES)
        if labelled:
            tl.store(query_labels + row, way)
