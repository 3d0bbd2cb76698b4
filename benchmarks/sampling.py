"""Episodes a second from a store, beside easyfsl's `TaskSampler` with a `DataLoader` of two processes.

Both draw tasks of one shape from the same pixels, in one file that is mapped into memory, and end with float32 tensors
from 0 to 1; both have the allocator that Fanfold's workers have. Fanfold takes one process of one thread. easyfsl's
data set is the quickest that its users could write, as it decodes no files. Beside the rates stands the machine's
floor: writing a task's floats into memory that is there already, and copying its bytes. The pictures are random
numbers, as many and as large as is asked:

    python -m benchmarks.sampling --pictures 60000 --size 84 --channels 3 --out results/sampling-84.json
    python -m benchmarks.sampling --pictures 1000000 --size 28 --channels 1 --out results/sampling-28.json

easyfsl is installed by `pip install easyfsl`. The store and the mapped file, of as many bytes as there are pixels, are
written to a temporary folder, which `--folder` names.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fanfold.data import images as keeping
from fanfold.data.images import WholeImages, open_images
from fanfold.data.pictures import Preprocessing
from fanfold.data.source import ClassName, Source
from fanfold.data.store import open_store, write_store
from fanfold.pipeline.cluster.preload import keep_memory
from fanfold.pipeline.files import write_json
from fanfold.tasks.batch import gather_tasks
from fanfold.tasks.episodes import EpisodeShape, Stream, draw_episodes
from fanfold.workflows.cli.result import environment

PER_CLASS = 600  # as in miniImageNet
BATCH = 8  # tasks that Fanfold gathers at a time


class Noise(Source):
    """Pictures of random numbers."""

    dataset = "noise"
    origin = MappingProxyType({"source": "random numbers"})

    def __init__(self, pictures: int, size: int, channels: int) -> None:
        self._classes, self._size, self._channels = pictures // PER_CLASS, size, channels

    @property
    def names(self) -> Sequence[ClassName]:
        return [ClassName("noise", str(number)) for number in range(self._classes)]

    @property
    def counts(self) -> Sequence[int]:
        return [PER_CLASS] * self._classes

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self._size, 1 if self._channels == 1 else 3)

    def read(self, index: int, first: int, last: int) -> Sequence[NDArray[np.uint8]]:
        shape = (last - first, self._channels, self._size, self._size)
        return list(np.random.default_rng([index, first]).integers(0, 256, shape, np.uint8))


def fanfold_rate(images: WholeImages, shape: EpisodeShape, seconds: float) -> float:
    """Tasks a second in this process, on one thread."""
    classes = np.arange(len(images.counts))

    def tasks(number: int) -> int:
        episodes = draw_episodes(0, Stream.TRAIN, number, number + BATCH, shape, classes, images.counts)
        return len(gather_tasks(episodes, shape, images))

    return _rate(tasks, seconds)


def easyfsl_rate(images: WholeImages, shape: EpisodeShape, seconds: float, processes: int) -> float:
    """Tasks a second of `TaskSampler` with a `DataLoader` of some processes."""
    from easyfsl.datasets import FewShotDataset
    from easyfsl.samplers import TaskSampler
    from torch.utils.data import DataLoader, Sampler

    # easyfsl 1.5 gives the base class a data source, which PyTorch's newer ones don't take.
    setattr(Sampler, "__init__", lambda sampler, data_source=None: None)  # noqa: B010
    labels = np.repeat(np.arange(len(images.counts)), images.counts).tolist()

    class Pictures(FewShotDataset):  # type: ignore[misc]
        def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
            return torch.from_numpy(np.array(images.pixels[item])).float().div_(255), labels[item]

        def __len__(self) -> int:
            return len(labels)

        def get_labels(self) -> list[int]:
            return labels

    pictures = Pictures()
    sampler = TaskSampler(pictures, shape.ways, shape.shots, shape.queries, 10**6)
    loader: Any = DataLoader(
        pictures, batch_sampler=sampler, num_workers=processes, collate_fn=sampler.episodic_collate_fn
    )
    found: Any = iter(loader)

    def task(number: int) -> int:
        next(found)
        return 1

    return _rate(task, seconds)


def floor_rate(images: WholeImages, shape: EpisodeShape, seconds: float) -> float:
    """Tasks a second where a task's bytes are copied, and its floats written, and nothing else is done."""
    values = shape.ways * (shape.shots + shape.queries) * images.channels * int(np.prod(images.size))
    pixels, copied = images.pixels.reshape(-1), np.empty(values, np.uint8)
    floats = np.empty(BATCH * values, np.float32)  # as large as a batch, which no cache of a core's holds

    def task(number: int) -> int:
        begin = number * values % (len(pixels) - values)
        np.copyto(copied, pixels[begin : begin + values])
        begin = number % BATCH * values
        floats[begin : begin + values] = 1.0
        return 1

    return _rate(task, seconds)


def _rate(step: Callable[[int], int], seconds: float) -> float:
    """Tasks a second of a function that computes the tasks from a number on, and says how many."""
    done = step(0)  # starts processes, and reads what it reads once
    start, tasks = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        tasks += step(done + tasks)
    return tasks / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=84)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--queries", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="of easyfsl's DataLoader")
    parser.add_argument("--out", default=None, help="a JSON file for the result")
    parser.add_argument("--folder", default=None, help="where the temporary folder is made")
    options = parser.parse_args()
    settings = {name: value for name, value in vars(options).items() if name not in ("folder", "out", "source")}
    torch.set_num_threads(1)
    keep_memory()
    shape = EpisodeShape(options.ways, options.shots, options.queries)
    with TemporaryDirectory(dir=options.folder) as folder:
        os.environ["FANFOLD_CACHE"] = folder
        start = time.perf_counter()
        source = Noise(options.pictures, options.size, options.channels)
        write_store(Path(folder, "noise.zarr"), source, progress=False)
        written = time.perf_counter()
        keeping.SMALL = 0  # mapped, however small
        images = open_images(open_store(Path(folder, "noise.zarr")))
        assert isinstance(images, WholeImages)
        mapped = time.perf_counter()
        print(f"store written in {written - start:.1f} s, mapped in {mapped - written:.1f} s", flush=True)
        rounds, load = [], os.getloadavg()[0]
        for number in range(options.rounds):
            ours = fanfold_rate(images, shape, options.seconds)
            theirs = easyfsl_rate(images, shape, options.seconds, options.processes)
            floor = floor_rate(images, shape, options.seconds / 5)
            rounds.append({"fanfold": ours, "easyfsl": theirs, "floor": floor, "times": ours / theirs})
            print(
                f"round {number}: Fanfold {ours:,.0f}, easyfsl {theirs:,.0f} tasks/s, {ours / theirs:.1f} times as "
                f"many; floor of the memory {floor:,.0f}",
                flush=True,
            )
    if options.out:
        median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        found = {"median": median, "rounds": rounds, "written_seconds": written - start}
        about = {"settings": settings, "load": load, "easyfsl": version("easyfsl"), "environment": environment()}
        write_json(Path(options.out), {**found, "mapped_seconds": mapped - written, **about})


if __name__ == "__main__":
    main()
