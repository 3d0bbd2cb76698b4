"""What writers leave that were killed is removed by the next one, and by no one before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fanfold.data.atomic import FRESH, complete_folder
from fanfold.pipeline.files import write_bytes, writing
from tests.environment import with_root

WRITE = {
    "file": "from fanfold.pipeline.files import writing as opened",
    "folder": "from fanfold.data.atomic import complete_folder as opened",
}
HOLD = """
import sys, time
from pathlib import Path
with opened(Path(sys.argv[1])) as part:
    print(getattr(part, "raw", part).name, flush=True)
    time.sleep(60)
"""


def write(kind: str, path: Path) -> None:
    if kind == "file":
        write_bytes(path, b"whole")
    else:
        with complete_folder(path, overwrite=True) as folder:
            (folder / "one").write_text("whole")


@pytest.mark.parametrize("kind", WRITE)
def test_what_a_killed_writer_leaves_is_removed_by_the_next_and_what_a_living_one_writes_is_not(
    tmp_path: Path, kind: str
) -> None:
    path, program = tmp_path / "whole[1].x", f"{WRITE[kind]}\n{HOLD}"
    (tmp_path / ".whole1.x.partial-1-00").write_text("of another name")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, env=with_root()
    ) as writer:
        try:
            assert writer.stdout is not None
            part = tmp_path / Path(writer.stdout.readline().strip()).name
            os.utime(part, (0, 0))
            write(kind, path)
            assert part.exists()
        finally:
            writer.send_signal(signal.SIGKILL)
    write(kind, path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".whole1.x.partial-1-00", path]


def test_what_has_only_begun_is_left_alone(tmp_path: Path) -> None:
    begun = tmp_path / ".one.partial-1-00"
    begun.touch()
    with writing(tmp_path / "one") as file:
        file.write(b"whole")
    assert begun.exists()
    os.utime(begun, times=(begun.stat().st_mtime - 2 * FRESH,) * 2)
    write_bytes(tmp_path / "one", b"whole")
    assert not begun.exists()
