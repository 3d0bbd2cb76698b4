"""Downloads go through torchvision, here from a server on this machine."""

import hashlib
import io
import socket
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import Omniglot

from fanfold.data.sources.download import DownloadError, download_omniglot

PARTS = ("images_background", "images_evaluation")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server that torchvision takes for the official one."""
    folder = tmp_path / "server"
    folder.mkdir()
    for part in PARTS:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{part}/Alphabet/character01/0001_01.png", b"picture")
        (folder / f"{part}.zip").write_bytes(file.getvalue())
    sums = {part: hashlib.md5((folder / f"{part}.zip").read_bytes()).hexdigest() for part in PARTS}
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(urllib.request, "_opener", None)  # it reads the environment once, when first used
        monkeypatch.setattr(Omniglot, "download_url_prefix", f"http://127.0.0.1:{httpd.server_port}")
        monkeypatch.setattr(Omniglot, "zips_md5", sums)
        yield folder
        httpd.shutdown()


def test_both_parts_are_fetched_once(server: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "stores/.downloads"
    assert download_omniglot(cache) == cache
    for part in PARTS:
        assert (cache / "omniglot-py" / f"{part}.zip").read_bytes() == (server / f"{part}.zip").read_bytes()
        (server / f"{part}.zip").unlink()
    printed = capsys.readouterr().err.splitlines()
    assert [line.rsplit("/")[-1] for line in printed] == [f"{part}.zip" for part in PARTS]
    download_omniglot(cache)  # asks the server for nothing
    assert capsys.readouterr().err == ""


def test_a_part_that_arrives_damaged_is_an_error_and_removed(server: Path, tmp_path: Path) -> None:
    (server / "images_evaluation.zip").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"could not be downloaded .*corrupted"):
        download_omniglot(tmp_path / "cache", progress=False)
    assert sorted(path.name for path in (tmp_path / "cache/omniglot-py").iterdir()) == [
        "images_background",
        "images_background.zip",
    ]


def test_a_part_the_server_lacks_is_an_error_and_nothing_left(server: Path, tmp_path: Path) -> None:
    (server / "images_background.zip").unlink()
    with pytest.raises(DownloadError, match=r"could not be downloaded \(HTTP Error 404"):
        download_omniglot(tmp_path / "stores/.downloads", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


def test_an_archive_that_can_not_be_unpacked_is_an_error_and_nothing_left(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(server / "images_background.zip", "a") as archive:
        archive.writestr("images_background/Alphabet/character01/0001_02.png", b"another picture")
    damaged = (server / "images_background.zip").read_bytes().replace(b"another picture", b"damaged picture")
    (server / "images_background.zip").write_bytes(damaged)
    monkeypatch.setitem(Omniglot.zips_md5, "images_background", hashlib.md5(damaged).hexdigest())
    with pytest.raises(DownloadError, match=r"could not be downloaded \(Bad CRC-32"):
        download_omniglot(tmp_path / "stores/.downloads", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


def test_no_network_is_an_error_with_the_ways_out(tmp_path: Path, no_network: None) -> None:
    start = time.perf_counter()
    with pytest.raises(DownloadError) as caught:
        download_omniglot(tmp_path / "stores/.downloads", progress=False)
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    assert message.startswith("Omniglot could not be downloaded (<urlopen error [Errno 111] Connection refused>)")
    for way_out in ("`dataset.source`", "OMNIGLOT_SOURCE", "`dataset.name=glyphs`"):
        assert way_out in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(Omniglot, "download_url_prefix", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("fanfold.data.sources.download.TIMEOUT_SECONDS", 0.5)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(urllib.request, "_opener", None)  # it reads the environment once, when first used
        with pytest.raises(DownloadError, match="timed out"):
            download_omniglot(tmp_path / "cache", progress=False)
    assert socket.getdefaulttimeout() is None
