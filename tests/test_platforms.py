"""What pip would install elsewhere; asks a package registry: `make test ARGS="-m network"`."""

import re
import shutil
import subprocess

import pytest

from tests.test_rooms import ROOT

pytestmark = pytest.mark.network

ONLY_LINUX = {"dask-cuda", "rapids-dask-dependency", "triton"}


def resolved(platform: str, python: str) -> dict[str, str]:
    """The versions of all packages of Fanfold with its users' extras, wheels alone, by uv."""
    uv = shutil.which("uv") or pytest.skip("needs uv: pip install uv")
    flags = ("--python-platform", platform, "--python-version", python, "--extra", "all", "--only-binary", ":all:")
    command = [
        uv,
        "pip",
        "compile",
        "--quiet",
        "--native-tls",
        "--no-header",
        "--no-annotate",
        *flags,
        "pyproject.toml",
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout
    return dict(re.findall(r"^([\w.-]+)==(\S+)", told, re.MULTILINE))


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", ["linux", "macos", "windows", "aarch64-unknown-linux-gnu"])
def test_every_platform_has_wheels_of_all_that_it_needs(platform, python):
    found = resolved(platform, python)
    assert {"torch", "dask", "numba", "optuna", "tensorboard", "mlflow-skinny"} <= set(found)
    if "linux" in platform:
        assert set(found) >= ONLY_LINUX
    else:
        assert not set(found) & ONLY_LINUX
    assert ("nvidia-ml-py" in found) == (platform != "macos")
