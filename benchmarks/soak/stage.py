"""The processes of a run: a scheduler, workers with a nanny each, and one driver after another."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import dask
import psutil

from fanfold.pipeline.cluster.cluster import DASK_SETTINGS
from fanfold.pipeline.cluster.preload import MODULE

ENDED = 2.0  # seconds within which a process ends that was asked to


def wait_for(what: Callable[[], object], seconds: float, name: str) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: It isn't within so many seconds.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(f"{name} within {seconds:g} s")
        time.sleep(0.05)


@dataclass
class Stage:
    """A scheduler at a fixed port, and its workers, in a folder of their own. It ends them when it is closed."""

    folder: Path
    workers: int = 2
    port: int = field(default_factory=lambda: free_port())
    scheduler: subprocess.Popen[bytes] | None = None
    host: str = "127.0.0.1"
    joins: str | None = None  # the address by which workers reach the scheduler, where it isn't its own
    environment: Mapping[str, str] = field(default_factory=dict)  # of all its processes, beside this one's
    crews: list[subprocess.Popen[bytes]] = field(default_factory=list)  # a nanny each, and its worker
    _log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    def open(self) -> None:
        """Start the scheduler, and the workers that are missing."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            end_groups(self.crews)
            self.crews.clear()
            listening = ["--host", self.host, "--port", str(self.port), "--dashboard-address", f"{self.host}:0"]
            self.scheduler = self.start("-m", "dask", "scheduler", *listening)
            wait_for(self.listens, 120, "no scheduler")
        for crew in [crew for crew in self.crews if crew.poll() is not None]:
            self.crews.remove(crew)
        while len(self.crews) < self.workers:
            self.add_worker()

    def add_worker(self, *options: str) -> subprocess.Popen[bytes]:
        """Start one worker more, with further options of `dask worker`."""
        host = self.next_host()
        alone = ["--nworkers", "1", "--nthreads", "1", "--host", host, "--no-dashboard", "--preload", MODULE, *options]
        self.crews.append(self.start("-m", "dask", "worker", self.joins or self.address, *alone, host=host))
        return self.crews[-1]

    def kill_scheduler(self) -> None:
        """Kill the scheduler; `open` starts it again, with its workers."""
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def next_host(self) -> str:
        """The address of the host on which the next worker is started."""
        return self.host

    def program(self, host: str) -> list[str]:
        """The command that begins Python on a host."""
        return [sys.executable]

    def listens(self) -> bool:
        """Whether the scheduler can be reached."""
        return answers(self.port)

    def start(self, *command: str, out: Path | None = None, host: str | None = None) -> subprocess.Popen[bytes]:
        """Start a command of Python's in the folder, in a process group of its own, with Fanfold's settings of Dask.

        What it says goes to a file, through a pipe: a limit of its files' sizes must not silence it.
        """
        if self._log is None:
            self._log = (self.folder / "cluster.log").open("ab")
        inherited = dask.config.serialize(dask.config.merge(dask.config.global_config, expanded(DASK_SETTINGS)))
        environment = {
            **os.environ,
            **self.environment,
            "DASK_INTERNAL_INHERIT_CONFIG": inherited,
            "PYTHONUNBUFFERED": "1",
        }
        process = subprocess.Popen(
            [*self.program(host or self.host), *command],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if out else self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=usual_signals,
        )
        if out:
            threading.Thread(target=_copy, args=(process.stdout, out), daemon=True).start()
        return process

    def worker_processes(self) -> list[psutil.Process]:
        """The processes that compute, without their nannies."""
        return [child for crew in self.crews for child in children(crew) if "spawn_main" in command_of(child)]

    def close(self) -> None:
        """End all processes."""
        end_groups([*self.crews, *([self.scheduler] if self.scheduler else [])])
        if self._log is not None:
            self._log.close()


def _copy(said: IO[bytes], out: Path) -> None:
    with said, out.open("wb", buffering=0) as file:
        for line in said:
            file.write(line)


def usual_signals() -> None:
    """What a terminal's process does with its signals, however this one was started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def expanded(settings: Mapping[str, object]) -> dict[str, object]:
    """Dotted settings as the tree that Dask keeps."""
    with dask.config.set(dict(settings)):
        return {name: deepcopy(dask.config.get(name)) for name in {key.split(".")[0] for key in settings}}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens at a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def children(process: subprocess.Popen[bytes]) -> Sequence[psutil.Process]:
    """The processes that a process started, and theirs; none where it is gone."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return ()


def command_of(process: psutil.Process) -> str:
    """The command line of a process; empty where it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def working_in(folder: Path) -> list[psutil.Process]:
    """The processes that work in a folder, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            works = process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
            if works and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def end_groups(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes by SIGTERM, and soon what is left of their groups and children by SIGKILL."""
    left = [child for process in processes for child in children(process)]
    for process in processes:
        for number in (signal.SIGCONT, signal.SIGTERM):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
    end = time.monotonic() + ENDED
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
    kill_groups(processes, left)


def kill_groups(processes: Sequence[subprocess.Popen[bytes]], more: Sequence[psutil.Process] = ()) -> None:
    """Kill processes with their groups and children, and more."""
    left = [*more, *(child for process in processes for child in children(process))]
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for child in left:
        with suppress(psutil.Error):
            child.kill()
    for process in processes:
        process.wait()
