"""Check Fanfold on a CUDA device, in one command and without a network: `python -m benchmarks.gpu_check`.

Parts run one after the other, what matters most first. Each has a share of the whole time, as large as its estimate is
beside the others', and what the parts before it have left; one that has no time left, or fails, says so in a line, and
the others go on. OUT.md and OUT.json are written anew with everything that is found, so that a check that is cut off
leaves what it had. The exit status is 0 if all that checks whether numbers are right has held, 1 if not, and 2 for a
request that can't be met.

`--quick --device cpu` rehearses it without a GPU, on tiny sizes.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import roofline
from benchmarks.gpu.options import Options
from benchmarks.gpu.parts import PARTS, scale
from benchmarks.gpu.report import markdown
from benchmarks.gpu.runner import Outcome, Runner
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.files import write_bytes, write_json
from fanfold.workflows.benchmark.peers.settings import SETTINGS

# Whose meta-gradients stand below the roofline.
MEASURED = ("fanfold", "fanfold-others", "autograd", "autograd-others", "vmap", "jax")
RESERVE = 5.0  # seconds of the whole check that no part gets: for the report
LEAST = 5.0  # seconds with which a part is still begun
VERSIONS = ("torch", "triton", "numpy", "jax", "higher", "dask", "dask-cuda", "zarr")


class Check:
    """A check as far as it has come.

    Args:
        options: What every part is told.
        result: What stands in the report besides the parts.
        planned: The seconds that each part is to take.
    """

    def __init__(self, options: Options, result: dict[str, Any], planned: Mapping[str, float]) -> None:
        self._options, self._began = options, time.monotonic()
        self.result = {**result, "planned": planned, "seconds": 0.0, "parts": {}}

    def note(self, name: str, outcome: Outcome) -> None:
        """Take in what a part has found, and write the report."""
        self.result["parts"][name] = {"title": PARTS[name].title, **asdict(outcome), "rows": list(outcome.rows)}
        self.write()

    def write(self) -> None:
        """Write OUT.json and OUT.md."""
        self.result["seconds"] = time.monotonic() - self._began
        write_json(self._options.out.with_suffix(".json"), self.result)
        write_bytes(self._options.out.with_suffix(".md"), markdown(self.result).encode())

    def add_roofline(self) -> None:
        """How near the meta-gradients come to their floors, in a table and a picture."""
        parts = self.result["parts"]
        ceilings = parts.get("ceilings", {}).get("rows", [])
        measured = [row for name in MEASURED for row in parts.get(name, {}).get("rows", [])]
        began, works = time.monotonic(), roofline.works(self._options)
        rows = roofline.shares(works, ceilings, measured)
        if rows:
            roofline.draw(works, ceilings, measured).savefig(self._options.beside("roofline.png"), dpi=150)
            taken = {"state": "done", "seconds": time.monotonic() - began, "reason": ""}
            parts["roofline"] = {"title": "How near the floor", **taken, "rows": rows}
            self.write()


def main(argv: Sequence[str]) -> int:
    """Run the check; the exit status."""
    asked = _parse(argv)
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise FanfoldError("No CUDA device found (PyTorch sees none): rehearse with --quick --device cpu.")
    if asked.device == "cpu" and not asked.quick:
        raise FanfoldError("On a CPU the check is a rehearsal: add --quick.")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    ends, times = time.monotonic(), scale(asked.parts, 60 * asked.minutes - RESERVE)
    planned = {name: PARTS[name].seconds * min(1, times) for name in asked.parts}
    with tempfile.TemporaryDirectory(prefix="fanfold-check-") as scratch:
        options = Options(asked.device, asked.quick, asked.out.absolute(), Path(scratch), asked.settings)
        check, passed = Check(options, _surroundings(asked, argv), planned), True
        with Runner(options) as runner:
            for name in asked.parts:
                part = PARTS[name]
                ends += part.seconds * times
                if ends - time.monotonic() < LEAST:
                    outcome = Outcome("out of time", 0.0, (), "no time was left to begin it")
                else:
                    outcome = runner.run(name, ends, partial(check.note, name))
                check.note(name, outcome)
                rehearsed = outcome.state == "absent" and not options.on_cuda
                passed &= outcome.passed or rehearsed or not part.decides
                print(_in_a_line(name, planned[name], outcome), flush=True)
        check.add_roofline()
    print(f"written to {asked.out.with_suffix('.md')} and {asked.out.with_suffix('.json')}")
    return 0 if passed else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/h200"), help="the report, without its ending")
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help=f"which of {','.join(PARTS)}")
    parser.add_argument("--settings", type=_settings, default=("a",), help="where vmap and JAX are measured: a,b,c,d")
    parser.add_argument("--minutes", type=float, default=7.9, help="how long it may take in all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, which say nothing about speed")
    return parser.parse_args(argv)


def _parts(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    return names


def _settings(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in SETTINGS]:
        raise argparse.ArgumentTypeError(f"no setting {', '.join(unknown)}: there are {', '.join(SETTINGS)}")
    return names


def _surroundings(asked: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """What a result depends on: the hardware, versions, command, date."""
    device: dict[str, Any] = {"device": "a CPU"}
    if asked.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        device = {"device": card.name, "memory": f"{card.total_memory / 2**30:.0f} GiB", "cuda": torch.version.cuda}
    return {
        "hardware": {**device, "cores": f"{os.cpu_count()} CPU cores"},
        "versions": {"Python": sys.version.split()[0], **{name: _version(name) for name in VERSIONS}},
        "command": shlex.join(["python", "-m", "benchmarks.gpu_check", *argv]),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "quick": asked.quick,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _in_a_line(name: str, planned: float, outcome: Outcome) -> str:
    wrong = sum(not row.get("passed", True) or "failed" in row for row in outcome.rows)
    words = [f"{name:15} {outcome.state} in {outcome.seconds:.1f} s of {planned:.0f}, {len(outcome.rows)} rows"]
    return ", ".join(
        words + ([f"{wrong} of them wrong or failed"] if wrong else []) + ([outcome.reason] * bool(outcome.reason))
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FanfoldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
