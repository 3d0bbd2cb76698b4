"""The faults of a soak: what is done to which process, at random moments that a seed draws."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from benchmarks.soak.stage import Stage, kill_groups, wait_for
from fanfold.pipeline.files import write_bytes

LONGEST = 14.0  # seconds that a process is stopped, at most: longer than a gang's patience of 10 s


@dataclass(frozen=True)
class Fault:
    """A kind of fault at a moment."""

    kind: str
    iteration: int  # once so many meta-iterations are done
    delay: float  # seconds after that, below a half
    draw: int  # what else is random in it


@dataclass(frozen=True)
class Scene:
    """What a fault can reach."""

    stage: Stage
    driver: subprocess.Popen[bytes]
    run: Path  # the run directory
    again: tuple[str, ...]  # the command that goes on with the run
    rivals: "list[subprocess.Popen[bytes]]"  # second drivers


Inject = Callable[[Scene, Random], None]


def kill_worker(scene: Scene, random: Random) -> None:
    """A worker is killed, as by the kernel where memory runs out; its nanny starts another."""
    _send(_one(scene, random), signal.SIGKILL)


def kill_all_workers(scene: Scene, _: Random) -> None:
    """All workers are killed."""
    for process in scene.stage.worker_processes():
        _send(process, signal.SIGKILL)


def stop_worker(scene: Scene, random: Random) -> None:
    """A worker is stopped for some seconds, and goes on."""
    _pause(_one(scene, random), random)


def stop_scheduler(scene: Scene, random: Random) -> None:
    """The scheduler is stopped for some seconds, and goes on."""
    assert scene.stage.scheduler is not None
    _pause(psutil.Process(scene.stage.scheduler.pid), random)


def stop_driver(scene: Scene, random: Random) -> None:
    """The driver is stopped for some seconds, and goes on."""
    with suppress(psutil.Error):
        _pause(psutil.Process(scene.driver.pid), random)


def kill_nanny(scene: Scene, random: Random) -> None:
    """A worker is lost with its nanny, as by its machine's end; another is started."""
    kill_groups([random.choice(scene.stage.crews)])
    scene.stage.open()


def exchange_worker(scene: Scene, random: Random) -> None:
    """A worker is added, and another is asked to go, as by `--lifetime`."""
    scene.stage.add_worker()
    old = scene.stage.crews[random.randrange(len(scene.stage.crews) - 1)]
    with suppress(ProcessLookupError):
        os.killpg(old.pid, signal.SIGTERM)


def second_driver(scene: Scene, _: Random) -> None:
    """A second driver goes on with the same run, see `refusal`; other faults come meanwhile."""
    scene.rivals.append(
        subprocess.Popen(
            [sys.executable, *scene.again],
            cwd=scene.stage.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    )


def refusal(rival: "subprocess.Popen[bytes]") -> str | None:
    """What is wrong with the end of a second driver, which must have been refused."""
    said = rival.communicate()[1].decode(errors="replace")
    last = (said.splitlines() or [""])[-1]
    if rival.returncode == 2 and "is being written by process" in last and "Traceback" not in said:
        return None
    return f"a second driver: status {rival.returncode}, {last!r}"


def full_disk(scene: Scene, _: Random) -> None:
    """The driver can't write any more, as where the disk is full: no file may grow."""
    with suppress(psutil.Error):
        psutil.Process(scene.driver.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))


def kill_driver(scene: Scene, _: Random) -> None:
    """The driver is killed."""
    _signal_driver(scene, signal.SIGKILL)


def end_driver(scene: Scene, random: Random) -> None:
    """The driver is ended by Ctrl-C, SIGTERM or SIGHUP."""
    _signal_driver(scene, random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))


def cut_checkpoint(scene: Scene, random: Random) -> None:
    """The driver is killed, and its last checkpoint is cut short."""
    _signal_driver(scene, signal.SIGKILL)
    last = _last_checkpoint(scene)
    content = last.read_bytes()
    write_bytes(last, content[: random.randrange(len(content))])


def flip_checkpoint(scene: Scene, random: Random) -> None:
    """The driver is killed, and a bit of its last checkpoint is flipped."""
    _signal_driver(scene, signal.SIGKILL)
    last = _last_checkpoint(scene)
    content = bytearray(last.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    write_bytes(last, bytes(content))


def kill_scheduler(scene: Scene, _: Random) -> None:
    """The scheduler is killed; it is started again, with its workers."""
    scene.stage.kill_scheduler()


# How often each kind is drawn; and, of those that end the driver or compete with it, how many iterations it has done
# before. A second damage to checkpoints, before there are two sound ones again, would end the run for good.
KINDS: dict[str, tuple[Inject, float, int | None]] = {
    "worker killed": (kill_worker, 44, None),
    "all workers killed": (kill_all_workers, 7, None),
    "worker stopped, then continued": (stop_worker, 40, None),
    "worker and nanny killed, another started": (kill_nanny, 12, None),
    "worker added, another asked to go": (exchange_worker, 12, None),
    "scheduler stopped, then continued": (stop_scheduler, 18, None),
    "driver stopped, then continued": (stop_driver, 18, None),
    "second driver on the run": (second_driver, 2, 1),
    "driver killed": (kill_driver, 9, 1),
    "driver ended by Ctrl-C, SIGTERM or SIGHUP": (end_driver, 9, 1),
    "disk full for the driver": (full_disk, 3, 1),
    "checkpoint cut short": (cut_checkpoint, 2, 25),
    "checkpoint's bit flipped": (flip_checkpoint, 2, 25),
    "scheduler killed": (kill_scheduler, 2, 1),
}


def draw(seed: int, faults: int, iterations: int) -> list[Fault]:
    """So many faults at random moments of a run, each kind at least once, in the order of their moments."""
    random = Random(seed)
    kinds = list(KINDS)
    more = random.choices(kinds, [weight for _, weight, _ in KINDS.values()], k=max(faults - len(kinds), 0))
    drawn = (kinds + more)[:faults]
    random.shuffle(drawn)
    moments = sorted(random.randrange(20, iterations - 100) for _ in drawn)
    return [
        Fault(kind, moment, random.random() / 2, random.getrandbits(32))
        for kind, moment in zip(drawn, moments, strict=True)
    ]


def inject(fault: Fault, scene: Scene) -> None:
    """Bring a fault about."""
    time.sleep(fault.delay)
    KINDS[fault.kind][0](scene, Random(fault.draw))


def _one(scene: Scene, random: Random) -> psutil.Process | None:
    there = scene.stage.worker_processes()
    return random.choice(there) if there else None


def _send(process: psutil.Process | None, number: int) -> None:
    with suppress(psutil.Error):
        if process is not None:
            process.send_signal(number)


def _pause(process: psutil.Process | None, random: Random) -> None:
    """Stop a process for a while; other faults come meanwhile."""
    _send(process, signal.SIGSTOP)
    going_on = threading.Timer(random.uniform(0, 1) ** 2 * LONGEST, _send, (process, signal.SIGCONT))
    going_on.daemon = True
    going_on.start()


def _signal_driver(scene: Scene, number: int) -> None:
    if scene.driver.poll() is None:
        scene.driver.send_signal(number)
    if number == signal.SIGKILL:
        scene.driver.wait()


def _last_checkpoint(scene: Scene) -> Path:
    last = scene.run / "checkpoints" / "last.safetensors"
    wait_for(last.exists, 5, "no checkpoint")
    return last
