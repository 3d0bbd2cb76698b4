"""The parts of the fault table that decide whether a fault came, and whether a case held."""

import json
import socket
import sys
import threading
import time

import pytest

from benchmarks.faults.__main__ import play
from benchmarks.faults.case import AbsentError, Case, attempt
from benchmarks.faults.cases import CASES
from benchmarks.faults.forwarder import Forwarder
from benchmarks.faults.hook import FULL
from benchmarks.faults.page import as_markdown
from benchmarks.faults.trial import SHORT, Ended, Trial, WrongError
from fanfold.workflows.cli.result import environment
from tests.environment import outcome, with_root


@pytest.fixture
def echo():
    """The port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection):
            with connection:
                try:
                    while content := connection.recv(1 << 16):
                        connection.sendall(content)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_forwarder_hands_on_delays_stalls_and_resets(echo):
    with Forwarder(echo) as link, socket.create_connection(("127.0.0.1", link.port), 5) as client:

        def there_and_back(content):
            began = time.monotonic()
            client.sendall(content)
            found = b""
            while len(found) < len(content):
                found += client.recv(1 << 16)
            assert found == content
            return time.monotonic() - began

        there_and_back(bytes(range(256)) * 4000)
        link.delay = 0.1
        assert there_and_back(b"slow") >= 0.2
        link.delay = 0.0
        stalled = threading.Thread(target=link.stall, args=(0.4,))
        stalled.start()
        time.sleep(0.1)
        assert there_and_back(b"stalled") > 0.2
        stalled.join()
        link.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with socket.create_connection(("127.0.0.1", link.port), 5) as again:
            again.sendall(b"anew")
            assert again.recv(4) == b"anew"
        assert link.resets == 2
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", link.port), 1)


def test_a_full_disk_comes_at_its_moment(tmp_path):
    code = f"""
import os
from benchmarks.faults.hook import Moment, install
install(Moment("driver", "os:fsync", 2, {FULL!r}, "mark"))
for name in "ab":
    with open(name, "wb", buffering=0) as file:
        os.fsync(file)
        file.write(b"content")
"""
    ran = outcome([sys.executable, "-c", code], tmp_path, with_root())
    assert "File too large" in ran.stderr
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"content", b""]


def test_a_case_holds_fails_or_is_skipped_by_name(tmp_path):
    def play_case(end):
        def case(trial, reference):
            trial.ends.append(Ended(1, "", (f"error: {trial.folder}/run is full",), 1.0))
            if end:
                raise end
            return f"parameters {reference}"

        return attempt(Case("disk full", "graph", case), Trial(tmp_path / "case", tmp_path / "s"), {SHORT: "abc"})

    lines = [play_case(end) for end in (None, WrongError(f"{tmp_path}/x is left"), AbsentError("root"))]
    assert [(line["held"], line["seen"]) for line in lines] == [
        (True, "parameters abc"),
        (False, "../x is left"),
        (None, "skipped: needs root"),
    ]
    assert lines[0]["drivers"][0]["said"] == "error: ./run is full"
    page = as_markdown({"command": "c", "known": 4, "cases": lines, "environment": environment()})
    assert "3 of 4 cases were played: 1 held, 1 did not hold, 1 skipped." in page
    assert "| disk full | graph | **no** | ../x is left |" in page


def test_what_held_is_not_played_again(tmp_path, monkeypatch):
    played = []
    made = [Case(name, "graph", lambda *_, name=name: played.append(name) or "seen") for name in ("old", "bad", "new")]
    monkeypatch.setattr("benchmarks.faults.__main__.CASES", made)
    for name in ("prepared", "undisturbed"):
        monkeypatch.setattr(f"benchmarks.faults.__main__.{name}", lambda *_: "abc")
    before = {"reduction": "graph", "seen": "before", "drivers": [], "seconds": 1.0}
    lines = [before | {"fault": name, "held": name == "old"} for name in ("old", "bad")]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = play(tmp_path, tmp_path / "store", [])
    assert played == ["bad", "new"]
    assert [(line["fault"], line["seen"]) for line in found] == [("old", "before"), ("bad", "seen"), ("new", "seen")]
    assert play(tmp_path, tmp_path / "store", []) == found


def test_every_case_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES)
