"""The kernel that gathers tasks, against PyTorch's operations."""

import numpy as np
import pytest
import torch

from fanfold.tasks.device.resident import Resident
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.pixels import ORIENTATIONS
from fanfold.tasks.pixels import sources as sources_of

pytest.importorskip("triton")

from fanfold.tasks.device import pictures


@pytest.mark.parametrize(("size", "channels"), [((7, 7), 1), ((33, 33), 3)])
def test_tasks_have_the_bits_of_pytorchs_operations(device, size, channels):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (9, channels, size[0] * size[1]), dtype=torch.uint8, generator=generator)
    sources = torch.tensor(sources_of(size).astype(np.int64))
    here = Resident(pixels, sources, torch.tensor(255.0), size, np.zeros(1, np.int64), ink=False)
    shape = EpisodeShape(3, 1, 2, rotations=True, reflections=True)
    codes = torch.randint(0, 9 * ORIENTATIONS, (2, 3, 3), dtype=torch.int32, generator=generator)
    given = (part.to(device) for part in (pixels, sources, codes))
    found, expected = pictures.gathered(*given, shape.shots, size, 3), here.tasks(codes, shape)
    for part in ("support", "support_labels", "query", "query_labels"):
        assert torch.equal(getattr(found, part).cpu(), getattr(expected, part)), part
    assert found.ways == expected.ways
