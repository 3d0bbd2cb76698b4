"""The kernels on a CPU. Triton's interpreter must be chosen before Triton is imported, so in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

triton = pytest.importorskip("triton")

HERE = Path(__file__).parent
TESTS = HERE.parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run on the CUDA device that is here")
@pytest.mark.skipif(
    Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.4"),
    reason="the interpreter of Triton before 3.7 fails with NumPy 2.4 (triton-lang/triton#9171)",
)
def test_kernels_compute_in_tritons_interpreter_what_they_should():
    files = [str(HERE / f"test_{name}.py") for name in ("products", "norms", "first", "covariance", "head", "stack")]
    files += [str(TESTS / "tasks" / "device" / "test_pictures.py"), str(TESTS / "pipeline" / "test_device_kernels.py")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not gpu",
        "-k",
        "not emulated",
        *files,
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout
