"""Time and memory of `fanfold prepare` on JPEG files, by default 10,000 of 200 to 1,200 pixels, which are made first.

The command runs in a process of its own, once for each way, in turn: by threads of one process, and, where asked, over
a cluster on this machine. Another folder's pictures are prepared with `--source`.

    python -m benchmarks.preparing --out results/preparing.json
    python -m benchmarks.preparing --ways threads cluster --size 84
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from fanfold.data.store import open_store
from fanfold.pipeline.files import write_json
from fanfold.workflows.cli.result import environment

CLASSES = 100
WAYS = {"threads": [], "cluster": ["--cluster.kind", "cpu", "--cluster.dashboard", ":0"]}


def make_pictures(folder: Path, count: int, low: int, high: int) -> None:
    """JPEG files like photographs: pieces of a large smooth picture in colour, with fine noise, by quality 90."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 60, 3), np.uint8)).resize((3000, 3000), Image.Resampling.BICUBIC)
    noise = rng.integers(-12, 13, (3000, 3000, 1))
    large = Image.fromarray(np.clip(np.asarray(coarse).astype(np.int16) + noise, 0, 255).astype(np.uint8))
    boxes = [(*rng.integers(0, 3000 - high, 2), *rng.integers(low, high + 1, 2)) for _ in range(count)]

    def write(number: int) -> None:
        left, top, width, height = map(int, boxes[number])
        piece = large.crop((left, top, left + width, top + height))
        piece.save(folder / f"class {number % CLASSES:03}" / f"{number:05}.jpg", quality=90)

    for number in range(CLASSES):
        (folder / f"class {number:03}").mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(count)))


def measure(source: Path, store: Path, size: int, flags: list[str]) -> dict[str, Any]:
    """Seconds, CPU seconds of all processes, and the largest process's memory in MB, of a preparation."""
    dataset = {"name": "folder", "source": source, "store": store, "size": size}
    words = [word for key, value in dataset.items() for word in (f"--dataset.{key}", str(value))]
    start = time.perf_counter()
    process = os.posix_spawn(
        sys.executable, [sys.executable, "-m", "fanfold", "prepare", *words, *flags, "--overwrite"], os.environ
    )
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"prepare ended with {os.waitstatus_to_exitcode(status)}")
    cpu = used.ru_utime + used.ru_stime
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": used.ru_maxrss / 1024,
        "digest": open_store(store).digest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=None, help="a folder of class folders, in place of made ones")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--low", type=int, default=200, help="the least height and width")
    parser.add_argument("--high", type=int, default=1200, help="the greatest height and width")
    parser.add_argument("--size", type=int, default=84, help="of the stored pictures")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=["threads"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", default=None, help="where the temporary folder is made")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the result")
    options = parser.parse_args()
    settings = {name: value for name, value in vars(options).items() if name not in ("folder", "out", "source")}
    with TemporaryDirectory(dir=options.folder) as folder:
        source = options.source or Path(folder, "pictures")
        if options.source is None:
            make_pictures(source, options.pictures, options.low, options.high)
        bytes_read = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        print(f"{bytes_read / 1e6:,.0f} MB of pictures", flush=True)
        load, found = os.getloadavg()[0], []
        for number in range(options.rounds):
            for way in options.ways:
                one = measure(source, Path(folder, "store.zarr"), options.size, WAYS[way])
                found.append({"way": way, **one})
                print(
                    f"round {number}, {way}: {one['seconds']:.1f} s, {one['cpu_seconds']:.1f} CPU s, "
                    f"{one['peak_mb']:,.0f} MB, digest {one['digest'][:12]}",
                    flush=True,
                )
    if options.out:
        about = {"settings": settings, "load": load, "environment": environment(), "bytes": bytes_read}
        write_json(options.out, {"rounds": found, **about})


if __name__ == "__main__":
    main()
