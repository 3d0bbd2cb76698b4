"""Accuracy on colour pictures after a minute or more of training: `python -m benchmarks.pictures ROW --source …`.

Rows:

- `groceries`: the Grocery Store data set (Klasson, Zhang and Kjellström, WACV 2019), its 81 classes split at random,
  five times. One network is trained a split, and tested on classes that it never saw, 5-way, 1-shot and 5-shot.
- `hues`: 60 classes of discs that differ in hue alone, generated, 5-way 1-shot. They are told apart by a small
  ResNet-12, whose mean over places leaves out where a disc is.

The mean over the splits has a standard error of its own, which is larger than that of a split's tasks. Training is
bounded by minutes on a machine that has nothing else to do; elsewhere by as many iterations as fit into these there
(`--iterations`), which give the same parameters, bit for bit. The result says which, and how busy the machine was.
Stores and runs that are in the work folder already are taken from there.

Adds the row to OUT.json, and writes all rows to OUT.md.
"""

import argparse
import colorsys
import json
import os
import shlex
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fanfold
from fanfold.data.errors import FanfoldError
from fanfold.data.store import open_store
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.result import environment

HUES, DISCS, SIZE = 60, 20, 32
ROWS: dict[str, dict[str, Any]] = {  # what each changes of the configuration
    "groceries": {},
    "hues": {"model": {"name": "resnet12", "widths": "8-16-32-64"}, "lr": 0.02},
}


def main(argv: Sequence[str]) -> None:
    """See the module, and `--help`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("row", choices=ROWS, help="which pictures")
    parser.add_argument("--source", type=Path, help="of groceries: the archive or its unpacked folder")
    parser.add_argument("--config", default="pictures", help="a configuration, by its name or file")
    parser.add_argument("--size", type=int, default=SIZE, help="height and width of the pictures")
    parser.add_argument("--minutes", type=float, help="of training; by default the configuration's")
    parser.add_argument("--iterations", type=int, help="of training, in the place of minutes")
    parser.add_argument("--name", help="the row's name in the result")
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="seeds of the splits")
    parser.add_argument("--members", type=int, default=1, help="networks a split, of seeds from 0, that judge together")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks of each split and number of shots")
    parser.add_argument("--flip", action="store_true", help="test with the mean over mirror images")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where stores and runs are kept; by default nowhere")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="OUT.json and OUT.md")
    asked = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        row = measured(asked, prepared(asked, folder / f"{asked.row}-{asked.size}.zarr"), folder)
    row["command"] = shlex.join(["python", "-m", "benchmarks.pictures", *_portable(argv)])
    path = asked.out.with_suffix(".json")
    rows = json.loads(path.read_text()) if path.exists() else {}
    rows[asked.name or asked.row] = row
    write_json(path, rows)
    write_bytes(asked.out.with_suffix(".md"), as_markdown(rows).encode())
    print(as_markdown({asked.name or asked.row: row}))


def prepared(asked: argparse.Namespace, path: Path) -> Any:
    """The row's store, made where it isn't there."""
    if path.exists():
        return open_store(path)
    if asked.row == "hues":
        images, labels = hues(asked.size)
        return fanfold.prepare(images, path, labels=labels, size=asked.size)
    with tempfile.TemporaryDirectory() as folder:
        return fanfold.prepare(_unpacked(asked.source, Path(folder)), path, size=asked.size)


def measured(asked: argparse.Namespace, store: Any, folder: Path) -> dict[str, Any]:
    """Train and test on each split."""
    splits, config = list[dict[str, Any]](), dict[str, Any]()
    for split in asked.splits:
        before = os.getloadavg()[0]
        runs = [trained(asked, store, split, seed, folder) for seed in range(asked.members)]
        configs = [{key: run.config[key] for key in ("task", "train", "algorithm", "model", "meta")} for run in runs]
        if any(one != (config or configs[0]) for one in configs):
            raise FanfoldError(f"Runs in {folder} were trained otherwise: name another folder with --work.")
        first, *others = runs
        config = configs[0]
        one, five = (first.test(asked.tasks, shots=s, flip=asked.flip, ensemble=others).accuracy for s in (1, 5))
        keys = ("iterations", "train_seconds", "tasks_per_second", "validation_accuracy", "parameters_sha256")
        splits.append(
            {
                "split": split,
                **{key: first.result[key] for key in keys},
                "1-shot": [one.mean, one.ci95],
                "5-shot": [five.mean, five.ci95],
                "load": [round(before, 2), round(os.getloadavg()[0], 2)],
            }
        )
        print(f"split {split}: 1-shot {one}, 5-shot {five}", flush=True)
    return {
        "data": str(store),
        **{shots: _mean([one[shots][0] for one in splits]) for shots in ("1-shot", "5-shot")},
        "splits": splits,
        "members": asked.members,
        "flip": asked.flip,
        "workers": asked.workers,
        "tasks": asked.tasks,
        "config": config,
        "environment": environment(),
    }


def trained(asked: argparse.Namespace, store: Any, split: int, seed: int, folder: Path) -> Any:
    """The run of a split and seed: one that is there, or a new one."""
    path = folder / f"{asked.row}-{split}-{seed}"
    if path.exists():
        return fanfold.load(path)
    length = {"iterations": asked.iterations} if asked.iterations else {}
    limit = {"minutes": asked.minutes} if asked.minutes else {"meta": {"minutes": None}} if asked.iterations else {}
    return fanfold.train(
        store,
        config=asked.config,
        split=f"random:{split}",
        seed=seed,
        cluster=asked.workers,
        path=path,
        evaluation={"flip": False, "tasks": 2, "other_tasks": 0},  # it is tested afterwards
        progress=sys.stderr.isatty(),
        **ROWS[asked.row],
        **length,
        **limit,
    )


def hues(size: int = SIZE) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Discs `[n, size, size, 3]` in 60 hues, and their labels `[n]`; place and radius are drawn, as is some noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    images = np.empty((HUES * DISCS, size, size, 3), np.uint8)
    for number in range(len(images)):
        radius = random.uniform(0.2, 0.35) * size
        y, x = random.uniform(radius, size - radius, 2)
        colour = 255 * np.array(colorsys.hsv_to_rgb(number // DISCS / HUES, 0.8, 0.8))
        inside = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2)[..., None]
        pixels = np.where(inside, colour, 230) + random.normal(0, 4, (size, size, 3))
        images[number] = pixels.clip(0, 255)
    return images, np.arange(len(images)) // DISCS


def as_markdown(rows: dict[str, Any]) -> str:
    """The rows as a page."""
    lines = [
        "# Colour pictures: accuracy on classes never seen",
        "",
        "Prototypical Networks, 5-way, mean over splits of the classes at random ± its standard error, in %. Each "
        "picture is judged by itself. Written by `python -m benchmarks.pictures`.",
        "",
        "| row | data | splits | 1-shot | 5-shot | training of a split |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        seconds = statistics.mean(one["train_seconds"] for one in row["splits"])
        iterations = statistics.mean(one["iterations"] for one in row["splits"])
        load = statistics.mean(one["load"][0] for one in row["splits"])
        networks = f"{row['members']} networks, each (seconds: the first's) " if row.get("members", 1) > 1 else ""
        how = f"{networks}{iterations:,.0f} iterations, {seconds:,.0f} s at a load of {load:.1f} before it"
        how += "; tested with mirror images" if row.get("flip") else ""
        shots = (f"{100 * row[key][0]:.1f} ± {100 * row[key][1]:.1f}" for key in ("1-shot", "5-shot"))
        lines.append(f"| {name} | {row['data']} | {len(row['splits'])} | {' | '.join(shots)} | {how} |")
    lines += ["", "By split, 1-shot · 5-shot:", ""]
    for name, row in rows.items():
        each = (f"{100 * one['1-shot'][0]:.1f} · {100 * one['5-shot'][0]:.1f}" for one in row["splits"])
        lines.append(f"- {name}: {', '.join(each)}")
    machines = {name: row["environment"] for name, row in rows.items()}
    lines += [""]
    for name, found in machines.items():
        lines.append(
            f"{name}: `{rows[name]['command']}`, {found['date']}, {rows[name]['workers']} workers, "
            f"{found['cores']} × {found['processor']}, Python {found['python']}, PyTorch {found['torch']}, "
            f"Dask {found['dask']}."
        )
        lines.append("")
    return "\n".join(lines)


def _mean(values: list[float]) -> list[float]:
    """Mean and its standard error; 0 for one value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return [statistics.mean(values), error]


def _unpacked(source: Path | None, folder: Path) -> Path:
    """The folder of pictures; an archive is unpacked in a temporary one."""
    if source is None or not source.exists():
        raise FanfoldError("Name the archive or the folder of the Grocery Store data set with --source.")
    if source.is_dir():
        return source
    with zipfile.ZipFile(source) as archive:
        archive.extractall(folder / "groceries")
    return folder / "groceries"


def _portable(argv: Sequence[str]) -> list[str]:
    """The arguments without a machine's places."""
    return [Path(word).name if "/" in word and Path(word).is_absolute() else word for word in argv]


if __name__ == "__main__":
    run(main)
