"""The page's images of tasks: each one a small PNG."""

import base64
import io

import numpy as np
from numpy.typing import NDArray

from fanfold.pipeline.recording.task_sheet import on_paper

CELLS = 120  # images drawn at most, unless a single task has more
SIDE = 40  # pixels at most
TASKS, SHOTS, QUERIES = 3, 5, 3  # drawn at most


def how_many(tasks: int, ways: int, shots: int, queries: int) -> int:
    """How many tasks to draw, of so many with so many images of each class."""
    return max(1, min(TASKS, tasks, CELLS // (ways * (min(shots, SHOTS) + min(queries, QUERIES)))))


def draw(support: NDArray[np.float32], query: NDArray[np.float32]) -> list[list[list[str]]]:
    """Tasks as PNG data URIs, by task and class: at most `SHOTS` support images, then at most `QUERIES` queries.

    Args:
        support: As shown, 0 to 1, `[tasks, ways, shots, height, width]`, and 3 where it has colour.
        query: As `support`: `[tasks, ways, queries, …]`.
    """
    images = np.concatenate([support[:, :, :SHOTS], query[:, :, :QUERIES]], axis=2)
    return [[[_uri(image) for image in of_class] for of_class in task] for task in images]


def _uri(shown: NDArray[np.float32]) -> str:
    image = on_paper(shown)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
