"""Check Fanfold on a CUDA device, without a network: `python -m benchmarks.gpu_check --first`, then `--second`.

`--first` tells within three minutes whether anything works and how fast it is; then is the time to mend. `--second`
measures the rest in seven. Parts run one after the other, what can't be measured again first, each in processes of its
own, for at most one and a half times its estimate. OUT.md and OUT.json are written anew with every row, so that
whatever ends a part or the check leaves what was found. The exit status is 0 if all that checks whether numbers are
right has held, 1 if not, and 2 for a request that can't be met.

Without a GPU it is a rehearsal: small sizes, the same path.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.part import AGAIN, Options, Row, command
from benchmarks.gpu.report import markdown
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import write_bytes, write_json

ROOT = Path(__file__).parents[1]
POLL = 0.1  # seconds between looks at what a part has found
LEEWAY = 1.5  # times its estimate that a part may take
VERSIONS = ("torch", "triton", "numpy", "jax", "higher", "dask", "dask-cuda", "zarr")


class Part(NamedTuple):
    """A part of the check: a list of jobs, see `benchmarks.gpu.part`."""

    jobs: str  # module and function
    title: str
    seconds: float  # on an H200 with 16 cores, its kernels compiled before, by estimate
    decides: bool = False  # whether its checks decide over the exit status
    processes: int = 1  # that share its jobs


FIRST = {
    "smoke": Part("benchmarks.gpu.training:smoke", "What everything needs", 18, decides=True),
    "ceilings": Part("benchmarks.gpu.rates:ceilings", "What the device can do", 8),
    "short": Part("benchmarks.gpu.correctness:short", "Products and a gradient against float64", 25, decides=True),
    "fanfold": Part("benchmarks.gpu.rates:fanfold", "Meta-gradients by Fanfold, setting (a)", 22),
    "kernels": Part("benchmarks.gpu.rates:kernels", "Kernels of a meta-gradient by time", 12),
    "loop": Part("benchmarks.gpu.training:loop", "A rank's loop on its device, without Dask", 25),
}
SECOND = {
    "window": Part("benchmarks.gpu.training:window", "A whole training run over a CUDA cluster", 165),
    "correctness": Part(
        "benchmarks.gpu.correctness:whole", "Gradients against float64 on the CPU", 50, decides=True, processes=6
    ),
    "vmap": Part("benchmarks.gpu.peers:vmapped", "Meta-gradients by torch.func.vmap in a CUDA graph", 20),
    "meta-test": Part("benchmarks.gpu.rates:meta_test", "Meta-test: 5-way 1-shot, 1 query a class, 3 inner steps", 14),
    "memory": Part("benchmarks.gpu.rates:memory", "Memory against inner steps", 14),
    "autograd": Part("benchmarks.gpu.peers:autograd", "Meta-gradients task after task", 16),
    "tests": Part("benchmarks.gpu.correctness:suite", "The suite's tests marked `gpu`", 60, decides=True, processes=4),
    "jax": Part("benchmarks.gpu.peers:jaxed", "Meta-gradients by JAX, jit and vmap", 40),
    "others": Part("benchmarks.gpu.rates:others", "Meta-gradients by Fanfold, other settings", 18),
}
PARTS = {**FIRST, **SECOND}
SECONDS = {"first": 180, "second": 420}  # that the two may take, start of the machine apart
REHEARSED = 900


@dataclass(frozen=True)
class Outcome:
    """What came of a part: how it ended, why (in a line), after how long, and what it found till then."""

    state: str
    reason: str
    seconds: float
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether it came to its end, and all that it checked held."""
        return self.state == "done" and all(row.get("passed", True) and "failed" not in row for row in self.rows)


class Slice:
    """A part's jobs, or some of them, in one process after another.

    Args:
        part: The part.
        piece: Which of its jobs: every so manieth, from which on.
        options: What every part is told.
    """

    def __init__(self, part: Part, piece: tuple[int, int], options: Options) -> None:
        self._jobs, self._piece, self._options = part.jobs, piece, options
        name = f"{part.jobs.partition(':')[2]}-{piece[0]}"
        self._path, self._log = (Path(options.scratch) / f"{name}.{ending}" for ending in ("jsonl", "log"))
        self._path.touch()
        self.broke = ""  # why its last process ended too early
        self._begin = 0
        self._process = self._started()

    def over(self) -> bool:
        """Whether all is computed; after a job that failed, the others are begun in a new process."""
        status = self._process.poll()
        if status is None or status == 0 or self.broke:
            return status is not None
        begun, whats = self._begin, [line["what"] for line in self._lines() if "begins" in line]
        said = self._log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), f"its process ended with {status}")
        if status != AGAIN and len(whats) == begun:
            self.broke = last
            return True
        if status != AGAIN:
            with self._path.open("a") as file:
                file.write(json.dumps({"row": whats[-1] | {"failed": last}}) + "\n")
        self._begin = len(whats)
        self._process = self._started()
        return False

    def rows(self) -> list[Row]:
        """What was found till now."""
        return [line["row"] for line in self._lines() if "row" in line]

    def end(self) -> None:
        """End its process and all that this one started: they are of one session."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        words = command(self._jobs, self._piece, self._path, self._begin, self._options)
        with self._log.open("a") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, cwd=ROOT)

    def _lines(self) -> Iterator[dict[str, Any]]:
        whole, _, _ = self._path.read_text().rpartition("\n")  # the last line may not be whole yet
        yield from map(json.loads, whole.splitlines())


def run(part: Part, options: Options, seconds: float, show: Callable[[Outcome], None]) -> Outcome:
    """Compute a part, for at most so many seconds; what it has found is shown with every row."""
    began, rows, over = time.monotonic(), tuple[Row, ...](), False
    with ExitStack() as stack:
        slices = [Slice(part, (place, part.processes), options) for place in range(part.processes)]
        for piece in slices:
            stack.callback(piece.end)
        while time.monotonic() - began < seconds and not over:
            time.sleep(POLL)
            over = min([piece.over() for piece in slices])  # all are looked at
            if len(now := tuple(row for piece in slices for row in piece.rows())) > len(rows):
                rows = now
                show(Outcome("running", "", time.monotonic() - began, rows))
    took, broke = time.monotonic() - began, next((piece.broke for piece in slices if piece.broke), "")
    if not over:
        return Outcome("out of time", f"Ended after {took:.0f} s.", took, rows)
    return Outcome("failed" if broke else "done", broke, took, rows)


def main(argv: Sequence[str]) -> int:
    """Run parts of the check; the exit status."""
    asked = _parse(argv)
    device = "cuda" if torch.cuda.is_available() and not asked.rehearse else "cpu"
    out: Path = asked.out or Path("results/h200" if device == "cuda" or asked.goals else "runs/gpu-rehearsal")
    out.parent.mkdir(parents=True, exist_ok=True)
    result = _known(out.with_suffix(".json"), device)
    if asked.goals:
        write_bytes(out.with_suffix(".md"), markdown(result).encode())
        return 0
    result |= _surroundings(device)
    seconds = REHEARSED if device == "cpu" else SECONDS["first" if asked.first else "second"]
    ends, passed = time.monotonic() + seconds, True
    with tempfile.TemporaryDirectory(prefix="fanfold-check-") as scratch:
        store = str(asked.store.absolute()) if asked.store else None
        options = Options(device, str(out.absolute()), scratch, store)
        for name in asked.parts:
            part = PARTS[name]

            def note(outcome: Outcome, name: str = name, part: Part = part) -> None:
                told = {"title": part.title, "planned": part.seconds, **asdict(outcome)}
                result["parts"][name] = told | {"rows": list(outcome.rows)}
                write_json(out.with_suffix(".json"), result)
                write_bytes(out.with_suffix(".md"), markdown(result).encode())

            left = ends - time.monotonic()
            outcome = Outcome("out of time", "No time was left to begin it.", 0.0, ())
            if left > 0:
                outcome = run(part, options, min(left, LEEWAY * part.seconds) if options.on_cuda else left, note)
            note(outcome)
            passed &= outcome.passed or not part.decides
            print(_in_a_line(name, part, outcome), flush=True)
    print(f"written to {out.with_suffix('.md')} and {out.with_suffix('.json')}")
    return 0 if passed else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--first", action="store_true", help="whether it works, and how fast: three minutes")
    which.add_argument("--second", action="store_true", help="all else: seven minutes")
    which.add_argument("--parts", type=_parts, help=f"some of {','.join(PARTS)}")
    which.add_argument("--goals", action="store_true", help="measure nothing: write the report of what is known")
    parser.add_argument("--out", type=Path, help="the report, without its ending: results/h200")
    parser.add_argument("--store", type=Path, help="Omniglot's prepared store, else prepared from OMNIGLOT_SOURCE")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small sizes, even where a GPU is")
    asked = parser.parse_args(argv)
    asked.parts = asked.parts or list(FIRST if asked.first else SECOND)
    return asked


def _parts(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    return names


def _known(path: Path, device: str) -> dict[str, Any]:
    """What an earlier check on such a device has found."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return known if known.get("device") == device else {"parts": {}}


def _surroundings(device: str) -> dict[str, Any]:
    """What a result depends on: hardware, versions, date."""
    hardware = "a CPU"
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        hardware = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    versions = {"Python": sys.version.split()[0], **{name: _version(name) for name in VERSIONS}}
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"device": device, "hardware": f"{hardware}, {os.cpu_count()} CPU cores", "versions": versions, "date": date}


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _in_a_line(name: str, part: Part, outcome: Outcome) -> str:
    wrong = sum(not row.get("passed", True) or "failed" in row for row in outcome.rows)
    words = [f"{name:11} {outcome.state} in {outcome.seconds:.1f} s of {part.seconds:.0f}, {len(outcome.rows)} rows"]
    words += [f"{wrong} of them wrong or failed"] if wrong else []
    return ", ".join([*words, *([outcome.reason] if outcome.reason else [])])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FanfoldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
