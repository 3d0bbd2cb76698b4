"""Tasks with their images, as tensors."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from data.images import Images
from tasks.episodes import Episodes, EpisodeShape


@dataclass(frozen=True)
class TaskBatch:
    """Some tasks of one shape. Images lie class by class, so the labels are those of every task.

    Args:
        support: Float `[tasks, ways · shots, 1, height, width]`, ink 1 on 0.
        support_labels: int64 `[ways · shots]`, 0 … ways - 1.
        query: Float `[tasks, ways · queries, 1, height, width]`.
        query_labels: int64 `[ways · queries]`.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor

    def __len__(self) -> int:
        return len(self.support)

    def to(self, device: str) -> "TaskBatch":
        """The same tasks on another device."""
        return TaskBatch(*(getattr(self, part.name).to(device) for part in fields(self)))


def gather_tasks(
    episodes: Episodes, shape: EpisodeShape, images: Images, dtype: torch.dtype = torch.float32
) -> TaskBatch:
    """Fetch the drawings of the episodes, turned as they say.

    Raises:
        FanfoldError: A chunk of the store is damaged.
    """
    tasks, ways, drawings = episodes.drawings.shape
    pixels = images.gather(np.broadcast_to(episodes.classes[..., None], episodes.drawings.shape), episodes.drawings)
    for turns in (1, 2, 3):
        turned = episodes.rotations == turns
        if turned.any():
            pixels[turned] = np.rot90(pixels[turned], turns, axes=(-2, -1))
    ink = torch.from_numpy(pixels).to(dtype).div_(255).unsqueeze(3)
    size = ink.shape[3:]
    label = torch.arange(ways)
    return TaskBatch(
        support=ink[:, :, : shape.shots].reshape(tasks, ways * shape.shots, *size),
        support_labels=label.repeat_interleave(shape.shots),
        query=ink[:, :, shape.shots :].reshape(tasks, ways * (drawings - shape.shots), *size),
        query_labels=label.repeat_interleave(drawings - shape.shots),
    )
