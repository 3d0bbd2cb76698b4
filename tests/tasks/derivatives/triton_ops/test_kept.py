"""Triton keeps its kernels where it can."""

import os
from pathlib import Path

import pytest

from fanfold.tasks.derivatives.triton_ops import kept


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    for name in ("TRITON_CACHE_DIR", "TRITON_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(kept.tempfile, "tempdir", str(tmp_path))


def test_a_home_that_can_be_written_to_is_left_to_triton(tmp_path):
    kept.find_folder.__wrapped__()
    assert "TRITON_CACHE_DIR" not in os.environ
    assert not list((tmp_path / ".triton" / "cache").iterdir())


def test_elsewhere_kernels_are_kept_for_this_process(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").write_text("in the way")
    kept.find_folder.__wrapped__()
    assert Path(os.environ["TRITON_CACHE_DIR"]).is_dir()
    assert Path(os.environ["TRITON_CACHE_DIR"]).parent == tmp_path
    assert len(caplog.messages) == 1
