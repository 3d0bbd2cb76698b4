"""Files that are whole or absent, and what is said where they can't be written."""

from pathlib import Path

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import writing


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device without any place, of Linux")
def test_a_full_disk_is_said_by_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "with_name", lambda *_: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    full = r"labels.csv can't be written \(No space left on device\): the earlier file is unchanged"
    with pytest.raises(FanfoldError, match=full), writing(tmp_path / "labels.csv") as file:
        file.write(b"0" * 100_000)
    with pytest.raises(FanfoldError, match=full), writing(tmp_path / "labels.csv") as file:
        file.write(b"few")
