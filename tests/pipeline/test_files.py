"""Files that are whole or absent, and what is said where they can't be written."""

from pathlib import Path

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import read_bytes, read_lines, writing


def lost() -> bytes:
    raise ConnectionResetError("a worker left")


def test_only_what_writing_raises_is_said_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"before")
    with pytest.raises(ConnectionResetError, match="a worker left"), writing(path) as file:
        file.write(lost())
    with pytest.raises(FanfoldError, match=r"nowhere/labels.csv can't be written \(No such file or directory\)"):
        writing(tmp_path / "nowhere" / "labels.csv").__enter__()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_no_file_can_have_is_said() -> None:
    for name in ("a\0b", "\ud800"):
        with pytest.raises(FanfoldError, match="can't be read"):
            read_bytes(Path(name))


def test_lines_are_read_of_files_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/zero")
    with pytest.raises(FanfoldError, match="is no file: move it away"):
        read_lines(tmp_path / "metrics.jsonl")


def test_a_message_of_any_length_is_cut() -> None:
    message = str(FanfoldError("a/" * 3000 + ": wrong"))
    assert (len(message) < 1100, message[-7:]) == (True, ": wrong")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device without any place, of Linux")
def test_a_full_disk_is_said_by_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "with_name", lambda *_: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    full = r"labels.csv can't be written \(No space left on device\): the earlier file is unchanged"
    with pytest.raises(FanfoldError, match=full), writing(tmp_path / "labels.csv") as file:
        file.write(b"0" * 100_000)
    with pytest.raises(FanfoldError, match=full), writing(tmp_path / "labels.csv") as file:
        file.write(b"few")
