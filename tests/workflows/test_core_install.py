"""Without the extras and without what only GPUs need, as on macOS: all imports, training, and what is said.

A finder that refuses the absent packages is installed in every process, Dask's workers included.
"""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from fanfold.data import extras
from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.main import run_verb
from tests.environment import ROOT, outcome, with_root
from tests.workflows.conftest import SMALL

FOR_GPUS = ("dask_cuda", "pynvml", "triton")
ABSENT = {module for modules in extras.MODULES.values() for module in modules} | set(FOR_GPUS)
REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""
IMPORT_ALL_THEN_TRAIN = """
import json, pkgutil, sys
from importlib import import_module
import fanfold

failed = {}
for found in pkgutil.walk_packages(fanfold.__path__, "fanfold.", lambda name: None):
    if not found.name.endswith("__main__"):
        try:
            import_module(found.name)
        except Exception as error:
            failed[found.name] = type(error).__name__
print(json.dumps(failed), flush=True)

from fanfold.workflows.cli.entry import run
from fanfold.workflows.train import main
run(main)
"""
NEED_MORE = (  # modules that only an extra's users, or GPUs, import
    *("fanfold.pipeline.search.", "fanfold.pipeline.dashboard.search_listener", "fanfold.workflows.actions.search"),
    *("fanfold.workflows.cli.search_space", "fanfold.workflows.reporting.search"),
    "fanfold.pipeline.recording.tensorboard",
    "fanfold.workflows.benchmark.peers.",
    *("fanfold.tasks.derivatives.triton_ops.", "fanfold.tasks.device.pictures", "fanfold.pipeline.device_kernels"),
    "fanfold.pipeline.cluster.gpu_cluster",
)


def test_a_core_install_imports_and_trains_on_a_cpu(pictures, tmp_path, environment):
    refusing = tmp_path / "refusing"
    refusing.mkdir()
    (refusing / "sitecustomize.py").write_text(REFUSE)
    (tmp_path / "main.py").write_text(IMPORT_ALL_THEN_TRAIN)
    asked = [*SMALL, "--dataset.source", str(pictures), "--meta.iterations", "2", "--cluster.workers", "1"]
    ran = outcome([sys.executable, "main.py", *asked], tmp_path, with_root(environment, refusing))
    assert ran.returncode == 0, ran.stderr
    first, *lines = ran.stdout.splitlines()
    failed = json.loads(first)
    assert not [module for module in failed if not module.startswith(NEED_MORE)], failed
    assert set(failed.values()) == {"ModuleNotFoundError"}
    absent = "no event files for TensorBoard: tensorboard not installed: pip install 'PATH/OF/THE/CLONE[tensorboard]'"
    assert (ran.stdout + ran.stderr).count(absent) == 1, ran.stderr
    assert any(line.startswith("test accuracy") for line in lines)
    assert any(line.startswith("report: ") for line in lines), ran.stdout


def test_what_needs_an_extra_says_so_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    said = r"^A search needs an extra \(cmaes not installed: pip install 'PATH/OF/THE/CLONE\[search\]'\)\.$"
    with pytest.raises(FanfoldError, match=said):
        extras.need("search", "A search")
    extras.need("tensorboard", "A run")


def test_a_search_without_its_extra_is_refused(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(SystemExit) as ended:
        run_verb(["search"])
    assert ended.value.code == 2
    assert "needs an extra (plotly not installed: pip install 'PATH/OF/THE/CLONE[search]')" in capsys.readouterr().err


def test_users_extras_are_those_of_the_project():
    project = tomllib.loads(Path(ROOT, "pyproject.toml").read_text())["project"]
    (everything,) = project["optional-dependencies"]["all"]
    assert set(everything.removeprefix("fanfold[").removesuffix("]").split(",")) == set(extras.MODULES)
    assert set(extras.MODULES) <= set(project["optional-dependencies"])
