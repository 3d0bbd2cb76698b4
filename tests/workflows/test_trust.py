"""A run directory from somebody else runs no code by being looked at."""

import sys

import pytest

import fanfold
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.config import is_local
from fanfold.workflows.cli.configuration import of_run
from fanfold.workflows.cli.trust import as_flags, leave_for, listed

FOREIGN = """
seed: 0
algorithm: {name: 'foreign_code.learners:Mine'}
model: {name: 'torch.hub:load', arguments: {source: local}}
"""
COMMANDS = [
    ["evaluate", "--run", "run"],
    ["report", "--run", "run", "--tasks", "0"],
    ["classify", "--run", "run", "--support", "run", "--query", "run"],
    ["export", "--run", "run"],
    ["train", "--resume", "--run", "run"],
]


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A run of somebody else's, beside the code that it names; tells whether that ran."""
    package, ran = tmp_path / "foreign_code", tmp_path / "ran"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(ran)!r}, 'w')")
    (package / "learners.py").write_text("class Mine: pass")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield ran
    for name in [name for name in sys.modules if name.startswith("foreign_code")]:
        del sys.modules[name]


def test_no_command_imports_what_a_run_names_without_leave(foreign, workflow_here):
    for command in COMMANDS:
        ran = workflow_here(*command)
        assert ran.returncode == 2
        assert ran.stderr == (
            "error: The run run names the algorithm 'foreign_code.learners:Mine', and importing "
            "'foreign_code.learners' runs its code: if you trust it, give --trust foreign_code.\n"
        )
    assert not foreign.exists()


def test_leave_is_by_package_and_the_model_needs_it_too(foreign, workflow_here):
    for argv, message in (
        (["--trust", "foreign_code"], "names the model 'torch.hub:load'"),
        (["--trust", "foreign"], "names the algorithm"),
        (["--trust"], "--trust needs a value: --trust PACKAGE."),
        (["--trust", "--algorithm.name", "maml"], "--trust needs a value"),
        (["--trust", "foreign-code"], "--trust must name packages"),
    ):
        ran = workflow_here("evaluate", "--run", "run", *argv)
        assert (ran.returncode, message in ran.stderr) == (2, True), ran.stderr
    assert not foreign.exists()
    ran = workflow_here("evaluate", "--run", "run", "--trust", "foreign_code", "torch")
    assert "Algorithm 'foreign_code.learners:Mine' must be a frozen dataclass" in ran.stderr
    assert foreign.exists()


def test_what_the_command_itself_names_is_trusted(foreign, tmp_path):
    (tmp_path / "own.yaml").write_text(FOREIGN)
    for argv in (
        ["--algorithm.name", "foreign_code.learners:Mine", "--model", "conv4"],
        ["--algorithm.name=maml", "--model.name=conv4"],
        ["--config", "own.yaml"],
        ["--trust=foreign_code", "--trust", "torch"],
    ):
        assert of_run("run", "", argv)[0] == "--config"


def test_two_names_in_one_file_are_read_as_the_parser_reads_them(foreign, tmp_path):
    (tmp_path / "run" / "config.yaml").write_text("model.name: conv4\nmodel: {name: 'torch.hub:load'}\n")
    with pytest.raises(FanfoldError, match=r"names the model 'torch\.hub:load'"):
        of_run("run", "", [])


def test_a_run_names_no_files_to_write_and_no_scheduler_of_another_machine(foreign, tmp_path):
    for content, message in (
        ("predictions: /home/somebody/.profile", "holds 'predictions', which no run's does"),
        ("record: {mlflow: 'http://192.0.2.1'}", "holds 'record'"),
        ("trust: [foreign_code]", "holds 'trust'"),
        ("cluster: {kind: 'tcp://192.0.2.1:8786'}", "names the scheduler 'tcp://192.0.2.1:8786', which could run code"),
        ("cluster.kind: 'tls://scheduler:8786'", "names the scheduler"),
    ):
        (tmp_path / "run" / "config.yaml").write_text(content)
        with pytest.raises(FanfoldError, match=message):
            of_run("run", "", [])
    assert of_run("run", "", ["--cluster.kind", "tls://scheduler:8786"])


def test_addresses_that_no_other_machine_reaches():
    local = ("tcp://127.0.0.1:8786", "tls://[::1]:1", "tcp://localhost:8786", "inproc://127.0.0.1/1/1")
    assert all(map(is_local, local))
    assert not any(map(is_local, ("tcp://10.0.0.1:1", "tcp://localhost.example.com:1", "tcp://", "tcp://[", "auto")))


def test_python_asks_for_leave_too(foreign):
    for leave in ({}, {"trust": ["torch"]}, {"trust": ["foreign"]}):
        with pytest.raises(FanfoldError, match=r"names the algorithm .* give trust=\[\"foreign_code\"\]"):
            fanfold.load("run", **leave)
    with pytest.raises(FanfoldError, match="names the algorithm"):
        fanfold.train(path="run", resume=True)
    with pytest.raises(FanfoldError, match="names the algorithm"):
        fanfold.learn("run", run="run")
    with pytest.raises(FanfoldError, match="trust must name packages"):
        fanfold.load("run", trust="foreign_code")
    assert not foreign.exists()
    assert fanfold.load("run", algorithm="maml", model="conv4").path.name == "run"


def test_leave_goes_along_with_suggested_commands():
    class Of:
        def __init__(self, **fields):
            vars(self).update(fields)

    config = {"algorithm": Of(name="mine.learners:A"), "model": Of(name="mine:B"), "cluster": Of(kind="tcp://n1:1")}
    assert as_flags(leave_for(config)) == ["--trust", "mine", "--cluster.kind", "tcp://n1:1"]
    config = {"algorithm": Of(name="maml"), "model": Of(name="object:B"), "cluster": Of(kind="tcp://127.0.0.1:1")}
    assert leave_for(config) == []


def test_all_values_of_a_flag():
    assert listed(["a", "--run", "b", "c", "--tasks", "3", "--run=d", "e"], "--run") == ["b", "c", "d", "e"]
