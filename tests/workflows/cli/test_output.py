"""A print can't end a run."""

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fanfold.data.advice import paced
from fanfold.data.errors import FanfoldError, RunError
from fanfold.pipeline.recording.progress import Terminal, fitted
from fanfold.workflows.cli.output import Lasting
from tests.workflows.conftest import QUIET, SMALL

FANFOLD = [sys.executable, "-P", "-m", "fanfold"]  # as the command, which doesn't look into the current folder first
TAKEN = ("data", "pipeline", "torch", "numpy", "yaml", "fanfold")  # names of the user's files
MINE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, ways):
        super().__init__(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, ways))
"""
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def test_no_lost_print_and_no_name_in_the_current_folder_ends_a_training(pictures, tmp_path, environment):
    """Standard output is closed, the locale is ASCII, the folder is full of our names, and the model is the user's."""
    for name in TAKEN:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('took {name}')")
    for name in ("tasks", "workflows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('took {name}')")
    (tmp_path / "my_model.py").write_text(MINE)
    plain = environment | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    width = SMALL.index("--model.width")
    small = [*SMALL[:width], *SMALL[width + 2 :], "--model.name", "my_model:Net"]
    flags = [*small, "--dataset.source", str(pictures), "--meta.iterations", "2", "--run", "run", *QUIET]
    flags += ["--cluster.workers", "1"]
    command = [*FANFOLD, "train", *flags]
    with subprocess.Popen(
        command, cwd=tmp_path, env=plain, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("dashboard: ")
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert json.loads((tmp_path / "run" / "result.json").read_text())["iterations"] == 2


@full
def test_text_that_a_full_disk_refuses_is_no_success(tmp_path, environment):
    with open("/dev/full", "w") as disk:  # noqa: PTH123
        ran = subprocess.run(
            [*FANFOLD, "--help"],
            cwd=tmp_path,
            env=environment,
            stdout=disk,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith("standard output can't be written (No space left on device)")


@full
def test_a_stream_loses_what_a_full_disk_refuses(capsys):
    with open("/dev/full", "w") as disk:  # noqa: PTH123
        stream = Lasting(disk, "standard output")
        for _ in range(3):
            stream.write("text\n")
            stream.flush()
        assert stream.full
    assert capsys.readouterr().err.count("\n") == 1


def test_a_reader_that_has_had_enough_is_no_failure(capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = Lasting(pipe, "standard output")
        stream.write("text\n")
        stream.flush()
        assert stream.error is not None
        assert not stream.full
    assert not capsys.readouterr().err


def test_letters_that_a_terminal_lacks_are_replaced():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Lasting(stream, "standard output").write("95 ± 1 %")
    assert raw.getvalue() == b"95 ? 1 %"


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.0432, "0.043"), (0.5, "0.5"), (2.04, "2"), (3.26, "3.3"), (9.97, "10"), (1234.5, "1,234"), (0.0, "0")],
)
def test_a_slow_pace_keeps_its_digits(rate, words):
    assert paced(rate) == words


STATUS = "iteration 12,345 · loss 0.123 · accuracy 95.1 % · 1234 tasks/s · 1:02:34 left"


@pytest.mark.parametrize(
    ("room", "last", "text"),
    [
        (90, True, STATUS),
        (60, True, "loss 0.123 · accuracy 95.1 % · 1234 tasks/s · 1:02:34 left"),
        (20, True, "1:02:34 left"),
        (30, False, "iteration 12,345 · loss 0.123"),
        (8, True, "1:02:34…"),
    ],
)
def test_a_status_gives_up_parts_where_there_is_no_room(room, last, text):
    assert fitted(STATUS.split(" · "), room, last) == text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_bar_and_remaining_time_are_seen_at_every_width(width):
    screen = io.StringIO()
    terminal = Terminal(console=Console(file=screen, width=width, force_terminal=True, color_system=None))
    task = terminal.bars.add_task("meta-training", total=1.0, status=STATUS)
    terminal.bars.update(task, completed=0.5)
    terminal.console.print(terminal.bars.get_renderable())
    (line,) = [line for line in screen.getvalue().splitlines() if line.strip()]
    assert "meta-train" in line
    assert line.count("━") + line.count("╸") + line.count("╺") >= 7, line
    assert line.rstrip().endswith("1:02:34 left")
    assert len(line) <= width


def test_names_from_data_can_not_command_the_terminal():
    out, err = io.StringIO(), io.StringIO()
    Lasting(out, "standard output").write("class \x1b]0;owned\x07\x9b1m\u202egnp.exe\r\n\tNaïve Ωmega 日本\n")
    assert out.getvalue() == "class �]0;owned��1m�gnp.exe�\n\tNaïve Ωmega 日本\n"
    Terminal(console=Console(file=err)).say("[red]class\x1b[2J")
    assert err.getvalue() == "[red]class�[2J\n"


def test_an_error_is_one_line_whatever_is_quoted_in_it():
    assert str(FanfoldError("class 'a\x1b[31m\nb\x00' is\tgone")) == "class 'a�[31m b�' is gone"
    assert str(pickle.loads(pickle.dumps(RunError("a\nb")))) == "a b"
