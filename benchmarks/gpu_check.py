"""Check Fanfold on a CUDA device, in one command and without a network: `python -m benchmarks.gpu_check`.

Runs the tests marked `gpu`, then measures tasks a second of a chunk on the device and on one CPU thread, on noise of
Omniglot's shape, for the networks of the README. Writes what it found to `--out`.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from tasks.batch import TaskBatch
from tasks.maml import Maml
from tasks.models import Conv4, Conv4Stride, Model
from tasks.network import as_network

TASKS = 32


def rate(model: Model, device: str) -> float:
    """Tasks a second of MAML's exact meta-gradient, 5-way 1-shot, one query a class, one inner step; median of ten."""
    torch.manual_seed(0)
    network = as_network(model.build(5, (28, 28)).to(device))
    label = torch.arange(5)
    tasks = TaskBatch(torch.rand(TASKS, 5, 1, 28, 28), label, torch.rand(TASKS, 5, 1, 28, 28), label).to(device)
    algorithm = Maml()
    parameters = algorithm.initialize(network)
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        algorithm.meta_gradient(network, parameters, 0, tasks).gradient.cpu()
        seconds.append(time.perf_counter() - began)
    return TASKS / statistics.median(seconds[2:])


def main() -> int:
    """Run the check; the exit status is that of the tests, or 2 without a device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    out = parser.parse_args().out
    if not torch.cuda.is_available():
        print("error: no CUDA device found (PyTorch sees none).", file=sys.stderr)
        return 2
    tests = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", "-q"], check=False)
    torch.set_num_threads(1)
    rates = {
        model.name: {device: round(rate(model, device), 1) for device in ("cpu", "cuda")}
        for model in (Conv4(), Conv4Stride())
    }
    found = {
        "device": torch.cuda.get_device_name(),
        "tests": tests.returncode,
        "tasks_per_second": rates,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main())
