"""How fast tasks are drawn, classes and drawings by number, without images: `python -m benchmarks.drawing`.

On one thread, from as many classes and drawings as Omniglot's training split has. A window is drawn at once, as for a
single rank; or of every meta-batch of it a few tasks only, as for one rank of several.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fanfold.pipeline.files import write_json
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_ranges
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment

CLASSES, DRAWINGS = np.arange(1100), np.full(1100, 20)
BATCH = 32
SHAPES = [
    EpisodeShape(ways, 1, queries, rotations=True, reflections=True)
    for ways, queries in ((5, 1), (5, 15), (20, 1), (20, 5), (60, 5))
]


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = build_parser("benchmarks.drawing", __doc__ or "", argv, [])
    parser.add_argument("--rounds", type=int, default=7, help="each is measured so often")
    parser.add_argument("--out", type=Path | None, default=None, help="where to write the result as JSON")
    options = parse(parser, argv)
    rows = []
    for shape in SHAPES:
        for iterations in (50, 1000):
            for ranks in (1, 8):
                row = {
                    "ways": shape.ways,
                    "shots": shape.shots,
                    "queries": shape.queries,
                    "iterations": iterations,
                    "ranks": ranks,
                    "tasks_per_second": rate(shape, iterations, ranks, options.rounds),
                }
                rows.append(row)
                print(
                    f"{shape.ways:2}-way 1-shot {shape.queries:2} queries, {iterations:4} iterations, "
                    f"rank 0 of {ranks}: {row['tasks_per_second']:11,.0f} tasks/s",
                    flush=True,
                )
    if options.out:
        write_json(options.out, {"drawing": rows, "environment": environment()})


def rate(shape: EpisodeShape, iterations: int, ranks: int, rounds: int) -> float:
    """Tasks a second that a rank draws of its own, the median of some rounds after a first."""
    own = BATCH // ranks
    ranges = [(number, number + own) for number in range(0, iterations * BATCH, BATCH)]
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        draw_ranges(0, Stream.TRAIN, ranges, shape, CLASSES, DRAWINGS)
        seconds.append(time.perf_counter() - began)
    return iterations * own / statistics.median(seconds[1:])


if __name__ == "__main__":
    run(main)
