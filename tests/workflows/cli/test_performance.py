"""Dask's own report of what a workflow did on its cluster."""

import re
from importlib import import_module

import pytest
from distributed import Client

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.cluster.cluster import Cluster
from fanfold.workflows.cli.performance import check_performance_file, performance_reported
from tests.workflows.conftest import QUIET, SMALL


def test_a_run_leaves_its_task_stream_in_a_file_that_needs_no_network(workflow_here, joined, pictures, tmp_path):
    run = [*SMALL, *joined, *QUIET, "--dataset.source", str(pictures), "--meta.iterations", "8"]
    ran = workflow_here("train", *run, "--performance_report", "dask.html")
    assert ran.returncode == 0, ran.stderr
    assert "performance report: dask.html" in ran.stdout
    report = (tmp_path / "dask.html").read_text()
    assert "Task Stream" in report
    for name in ("window", "validate", "meta-testing"):  # by the names of what they do
        assert f'"{name}"' in report
    assert not re.search(r"<script[^>]* src=|<link[^>]* rel=\W?stylesheet", report)


@pytest.mark.parametrize("workflow_name", ["evaluate", "search", "table", "train"])
def test_a_file_that_cannot_be_written_is_an_error_before_anything_starts(tmp_path, monkeypatch, workflow_name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(tmp_path)
    arguments = {"evaluate": ["--run", "run"], "table": ["run/config.yaml"]}.get(workflow_name, [])
    main = import_module(f"fanfold.workflows.{workflow_name}").main
    with pytest.raises(FanfoldError, match=r"missing/dask.html can't be written \(there is no folder missing\)"):
        main([*arguments, "--performance_report", "missing/dask.html"])


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FanfoldError, match="it is a folder"):
        check_performance_file(tmp_path)
    check_performance_file(tmp_path / "report.html")
    check_performance_file(None)


def test_a_report_that_fails_in_the_end_costs_a_line(tmp_path, capsys):
    """As where the disk is full by then: here a folder has taken its place."""
    with (
        Client(n_workers=1, processes=False, dashboard_address=":0") as client,
        performance_reported(Cluster(client, "cpu"), tmp_path / "dask.html"),
    ):
        assert client.submit(int, 1).result() == 1
        (tmp_path / "dask.html").mkdir()
    assert "dask.html can't be written (" in capsys.readouterr().err
