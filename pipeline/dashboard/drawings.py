"""How the page's tasks look: each image a small PNG of its own, ink dark on white."""

import base64
import io

import numpy as np
from numpy.typing import NDArray

from fanfold.pipeline.recording.task_sheet import on_paper

CELLS = 120  # images drawn, at most, but for a task of very many ways
SIDE = 40  # pixels, at most
TASKS, SHOTS, QUERIES = 3, 5, 3  # drawn at most, of each


def how_many(tasks: int, ways: int, shots: int, queries: int) -> int:
    """How many tasks to draw.

    Args:
        tasks: How many there are.
        ways: Classes of each.
        shots: Support images of a class.
        queries: Query images of a class.
    """
    return max(1, min(TASKS, tasks, CELLS // (ways * (min(shots, SHOTS) + min(queries, QUERIES)))))


def draw(support: NDArray[np.float32], query: NDArray[np.float32]) -> list[list[list[str]]]:
    """Tasks as PNG data URIs, task by task, class by class: support images first, not all where there are many.

    Args:
        support: Ink, 0 to 1, `[tasks, ways, shots, height, width]`.
        query: Ink, 0 to 1, `[tasks, ways, queries, height, width]`.
    """
    images = np.concatenate([support[:, :, :SHOTS], query[:, :, :QUERIES]], axis=2)
    return [[[_uri(image) for image in of_class] for of_class in task] for task in images]


def _uri(ink: NDArray[np.float32]) -> str:
    image = on_paper(ink)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
