"""The recipes of `docs/deploy`: what can be checked of them without a cluster of that kind."""

import ast
import re
import shlex

import pytest
import yaml

from tests.environment import ROOT
from tests.workflows.test_pages import check_dask

DEPLOY = ROOT / "docs" / "deploy"


def test_the_manifests_commands_have_flags_that_dask_knows():
    manifest = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    for part in ("scheduler", "worker"):
        (container,) = manifest["spec"][part]["spec"]["containers"]
        program, *words = container["args"]
        assert program == "dask"
        check_dask(words)


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_names_a_preload_and_flags_that_are_there(path):
    strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    assert "fanfold.pipeline.cluster.preload" in strings
    if "--lifetime" in strings:
        check_dask(["worker", "tcp://there:1", "--lifetime", "110m", "--preload", "json"])


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("Dockerfile.*")), ids=lambda path: path.suffix)
def test_a_dockerfile_copies_what_is_there_and_ends_in_a_command(path):
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            source = shlex.split(line)[1]
            assert (ROOT / source).exists()
    assert lines[-1].startswith('CMD ["fanfold"')
