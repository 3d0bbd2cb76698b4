"""A stage over two hosts: network namespaces of this machine, each with an address of its own, as root."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.faults.case import AbsentError, program
from benchmarks.soak.stage import Stage, command_of

HOSTS = (f"fanfold-{os.getpid()}-0", f"fanfold-{os.getpid()}-1")
ADDRESSES = ("10.213.78.1", "10.213.78.2")
ENDS = ("fan0", "fan1")  # of the link between them
PROBE = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"


@dataclass
class TwoHosts(Stage):
    """Scheduler, driver and a worker on one host, a worker on another."""

    host: str = ADDRESSES[0]

    def program(self, host: str) -> list[str]:
        return [program("ip"), "netns", "exec", HOSTS[ADDRESSES.index(host)], sys.executable]

    def listens(self) -> bool:
        probe = [*self.program(self.host), "-c", PROBE, self.host, str(self.port)]
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0

    def next_host(self) -> str:
        there = [command_of(psutil.Process(crew.pid)) for crew in self.crews if crew.poll() is None]
        return ADDRESSES[0] if any(f"--host {ADDRESSES[1]}" in command for command in there) else ADDRESSES[1]


@contextmanager
def hosts() -> Iterator[None]:
    """The two hosts, which are gone afterwards.

    Raises:
        AbsentError: This machine allows none.
    """
    with ExitStack() as stack:
        try:
            for name in HOSTS:
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "delete", name)
            _ip("link", "add", ENDS[0], "netns", HOSTS[0], "type", "veth", "peer", "name", ENDS[1], "netns", HOSTS[1])
        except subprocess.CalledProcessError as error:
            raise AbsentError("network namespaces") from error
        for name, end, address in zip(HOSTS, ENDS, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield


def cut(seconds: float) -> None:
    """Cut the link for some seconds."""
    _ip("-n", HOSTS[1], "link", "set", ENDS[1], "down")
    time.sleep(seconds)
    _ip("-n", HOSTS[1], "link", "set", ENDS[1], "up")


def _ip(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True, capture_output=True, text=True)
