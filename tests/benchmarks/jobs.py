"""Jobs of a part of the check that don't come to their end."""

import os
import subprocess
import sys

from benchmarks.gpu.part import AbsentError, Job


def endless(options):
    """One row, then a process that nobody waits for to its end."""

    def find():
        sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        yield {"process": sleeping.pid}
        sleeping.wait()

    return [Job({"job": "quick"}, lambda: {"value": 1}), Job({"job": "endless"}, find)]


def failing(options):
    """One of each kind."""

    def fail():
        raise RuntimeError("no\nkernel")

    def lack():
        raise AbsentError("needs CUDA")

    finds = {"fine": dict, "failing": fail, "lacking": lack, "dying": lambda: os._exit(9), "late": os.getpid}
    return [
        Job({"job": name}, find if name != "late" else lambda: {"process": os.getpid()}) for name, find in finds.items()
    ]
