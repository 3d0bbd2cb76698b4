"""One writer at a time."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.lock import only_writer
from fanfold.pipeline.recording.run_directory import RunDirectory

HOLD = """
import sys, time
from pathlib import Path
from fanfold.pipeline.lock import only_writer
with only_writer(Path(sys.argv[1]), "The run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_the_first_is_and_a_killed_one_leaves_the_lock_free(tmp_path):
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        held = path.read_text()
        for _ in range(2):  # a refused one takes nothing away from the lock
            with pytest.raises(FanfoldError) as caught, only_writer(path, "The run x"):
                pass
            who = f"process {first.pid} on {re.escape(socket.gethostname())} since 20[-0-9: +]+"
            assert re.fullmatch(rf"The run x is being written by {who}: wait for its end, or .*", str(caught.value))
            assert path.read_text() == held
        first.send_signal(signal.SIGKILL)
    with only_writer(path, "The run x"):
        assert str(os.getpid()) in path.read_text()


def test_a_second_driver_changes_nothing_of_a_run(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    with directory.writing("meta: 1\n", resumed=False):
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        for resumed in (True, False):
            with pytest.raises(FanfoldError, match="is being written by process"):
                directory.writing("meta: 2\n", resumed=resumed).__enter__()
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    with directory.writing("meta: 2\n", resumed=True):
        assert directory.config.read_text() == "meta: 2\n"
    with pytest.raises(FanfoldError, match="already holds a run"), directory.writing("meta: 3\n", resumed=False):
        pass


def test_a_lock_whose_note_can_not_be_written_holds_all_the_same(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with (
        only_writer(tmp_path / ".lock", "The run x"),
        pytest.raises(FanfoldError, match="is being written by another process"),
        only_writer(tmp_path / ".lock", "The run x"),
    ):
        pass
