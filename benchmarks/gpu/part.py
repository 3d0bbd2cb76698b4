"""A part of the check, computed in a process of its own: `python -m benchmarks.gpu.part`, which `gpu_check` starts.

A part is a list of jobs. What a job finds is appended to a file, a line of JSON each, before the next job begins: so
nothing is lost of what came before the part's time was over. After a job that failed on a device, nothing that follows
it there can be trusted, and the process leaves the others to another one.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fanfold.data.advice import one_line
from fanfold.data.errors import RunError
from fanfold.tasks.device import cuda_graph

AGAIN = 3  # exit status: the jobs that are left want a new process
WORDS = 240  # characters of a reason

Row = dict[str, Any]
"""One finding, by the head of its column. `passed` says whether a check held, `failed` why there is no finding."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Args:
        device: `cuda`, or `cpu` in a rehearsal, whose sizes are small and whose times say nothing.
        out: The report, without its ending; what parts leave beside it begins so, too.
        scratch: A folder for what is thrown away in the end.
        store: Omniglot's prepared store; without one, it is prepared from `OMNIGLOT_SOURCE`.
    """

    device: str
    out: str
    scratch: str
    store: str | None = None

    @property
    def on_cuda(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device == "cuda"

    @property
    def place(self) -> torch.device:
        """The device, as PyTorch calls it."""
        return torch.device(self.device)


class Job(NamedTuple):
    """Something to measure or check: what it is, and what finds the rest of its row, or several rows."""

    what: Row
    find: Callable[[], Row | Iterable[Row]]


class AbsentError(Exception):
    """What a job needs isn't there: its message says what, in a line."""


def need_cuda(options: Options) -> None:
    """Raise AbsentError in a rehearsal."""
    if not options.on_cuda:
        raise AbsentError("needs CUDA")


def compute(jobs: Sequence[Job], path: Path, begin: int, on_cuda: bool) -> int:
    """Compute jobs from one on, and append what they find to a file; the process's exit status."""
    with path.open("a") as file:

        def write(line: Row) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        for number, job in enumerate(jobs[begin:], begin):
            write({"begins": number, "what": job.what})
            try:
                found = job.find()
                for row in [found] if isinstance(found, dict) else found:
                    write({"row": job.what | row})
                if on_cuda:
                    torch.cuda.synchronize()  # a fault of a kernel belongs to this job
                    torch.cuda.empty_cache()
            except (AbsentError, ImportError) as error:
                write({"row": job.what | {"absent": one_line(error)[:WORDS]}})
            except Exception as error:  # whatever a kernel, a library or the memory's end may raise
                traceback.print_exc()
                write({"row": job.what | {"failed": one_line(error)[:WORDS]}})
                if number + 1 < len(jobs):
                    return AGAIN
    return 0


def main(argv: Sequence[str]) -> int:
    """Compute a slice of a part's jobs: where they come from, which, where to write, and the options, as JSON."""
    asked: dict[str, Any] = json.loads(argv[0])
    options = Options(**asked["options"])
    logging.getLogger(cuda_graph.__name__).addFilter(_refuse)
    # As a worker has PyTorch's own operations: the same every time, in float32.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if not options.on_cuda:
        torch.set_num_threads(1)  # small tensors are slower on several
    module, _, function = asked["jobs"].partition(":")
    jobs: Sequence[Job] = getattr(import_module(module), function)(options)
    place, places = asked["slice"]
    return compute(jobs[place::places], Path(asked["path"]), asked["begin"], options.on_cuda)


def _refuse(record: logging.LogRecord) -> bool:
    """What can't be captured as a CUDA graph, of which a worker's log has a warning, is an error here."""
    raise RunError(record.getMessage())


def command(jobs: str, piece: tuple[int, int], path: Path, begin: int, options: Options) -> list[str]:
    """The command line of a process for a slice `(place, places)` of a part's jobs, from the slice's job `begin` on."""
    asked = {"jobs": jobs, "slice": piece, "path": str(path), "begin": begin, "options": asdict(options)}
    return [sys.executable, "-m", "benchmarks.gpu.part", json.dumps(asked)]


if __name__ == "__main__":
    sys.exit(import_module("benchmarks.gpu.part").main(sys.argv[1:]))  # whose errors are those that parts raise
