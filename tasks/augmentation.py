"""Augmentation of training pictures, by torchvision's own functions.

A picture's parameters are drawn by Philox from the run's seed, its task's number and its place in the task: whoever
computes the task draws the same. Tests see the pictures as they are.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fanfold.tasks.batch import TaskBatch

STREAM = 16  # of Philox: none of `tasks.episodes.Stream`
WORDS = 8  # random words of a picture: two steps of Philox4x64
AREA = (0.35, 1.0)  # of a crop, as a share of the picture
ASPECT = (3 / 4, 4 / 3)  # of a crop, width to height
JITTER = 0.4  # by which brightness, contrast and saturation change, up and down


def augmented(tasks: TaskBatch, augment: str | None, seed: int, first: int) -> TaskBatch:
    """The tasks with every picture flipped, cropped and its colours changed at random, as far as that is asked for.

    Args:
        tasks: Tasks of pictures, on the host.
        augment: See `tasks.episodes.check_augment`; None for as they are.
        seed: The run's seed.
        first: The number of the first task.
    """
    if augment is None:
        return tasks
    kinds, shots = augment.split(","), tasks.support.shape[1]
    pictures = torch.cat([tasks.support, tasks.query], 1)
    drawn = draw(seed, first, *pictures.shape[:2])
    found = torch.stack(
        [
            torch.stack([_picture(one, kinds, numbers) for one, numbers in zip(of_task, of_its, strict=True)])
            for of_task, of_its in zip(pictures, drawn, strict=True)
        ]
    )
    return replace(tasks, support=found[:, :shots], query=found[:, shots:])


def draw(seed: int, first: int, tasks: int, pictures: int) -> NDArray[np.float64]:
    """Numbers from 0 to below 1 for the pictures of tasks from `first` on: `[tasks, pictures, 8]`."""
    generator = np.random.Philox(key=np.array([seed, STREAM], dtype=np.uint64))
    generator.advance(first * pictures * WORDS // 4)
    words = generator.random_raw(tasks * pictures * WORDS).reshape(tasks, pictures, WORDS)
    found: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found


def _picture(picture: Tensor, kinds: Sequence[str], numbers: NDArray[np.float64]) -> Tensor:
    """A picture `[channels, height, width]`, 0 to 1, changed as its numbers say."""
    from torchvision.transforms.v2 import functional  # only here: importing it takes its time

    flip, area, aspect, top, left, *jitter = numbers.tolist()
    if "crop" in kinds:
        height, width = picture.shape[1:]
        pixels = _between(area, *AREA) * height * width
        ratio = exp(_between(aspect, *map(log, ASPECT)))
        across = min(width, max(1, round(sqrt(pixels * ratio))))
        down = min(height, max(1, round(sqrt(pixels / ratio))))
        corner = int(top * (height - down + 1)), int(left * (width - across + 1))
        picture = functional.resized_crop(picture, *corner, down, across, [height, width], antialias=True)
    if "flip" in kinds and flip < 0.5:
        picture = functional.horizontal_flip(picture)
    if "colour" in kinds:
        brightness, contrast, saturation = (_between(number, 1 - JITTER, 1 + JITTER) for number in jitter)
        picture = functional.adjust_contrast(functional.adjust_brightness(picture, brightness), contrast)
        if len(picture) == 3:
            picture = functional.adjust_saturation(picture, saturation)
    return picture


def _between(number: float, least: float, most: float) -> float:
    return least + number * (most - least)
