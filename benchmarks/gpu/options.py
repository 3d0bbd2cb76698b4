"""What every part of the check is told."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fanfold.data.advice import one_line

WORDS = 240  # characters of a reason
LEAST = 1.5  # seconds with which a measurement is still begun

Row = dict[str, Any]
"""One finding, by the head of its column. `passed` says whether a check held, `failed` why there is no finding."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Args:
        device: `cuda`, or `cpu` to rehearse.
        quick: Tiny sizes, which say nothing about speed.
        out: Where the report goes, without its ending; what parts leave beside it begins so, too.
        scratch: A folder for what is thrown away in the end.
        settings: Names of the settings in which a part measures rates.
        ends: When a part must be at its end, by `time.monotonic`, which is the same in all processes.
    """

    device: Literal["cuda", "cpu"]
    quick: bool
    out: Path
    scratch: Path
    settings: tuple[str, ...] = ("a",)
    ends: float = math.inf

    @property
    def on_cuda(self) -> bool:
        """Whether this is no rehearsal."""
        return self.device == "cuda"

    @property
    def place(self) -> torch.device:
        """The device, as PyTorch calls it."""
        return torch.device(self.device)

    @property
    def left(self) -> float:
        """Seconds that a part has left."""
        return self.ends - time.monotonic()

    def beside(self, name: str) -> Path:
        """A file beside the report: `results/h200-NAME`."""
        return self.out.with_name(f"{self.out.name}-{name}")


class AbsentError(Exception):
    """What a part needs isn't there: its message says what, in a line."""


class OutOfTimeError(Exception):
    """A part has no time left: its message says for what, in a line."""


def need_cuda(options: Options) -> None:
    """Raise AbsentError in a rehearsal on the CPU."""
    if not options.on_cuda:
        raise AbsentError("needs CUDA")


def attempt(options: Options, what: Row, measure: Callable[..., Row], *arguments: Any) -> Row:
    """A row of what is measured and what was found, or why it failed: the part goes on.

    Args:
        options: When the part must be at its end, and what else there is to tell.
        what: What is measured.
        measure: Measures it; gets the arguments and the options.
        arguments: See `measure`.

    Raises:
        OutOfTimeError: There is no time left to begin it.
    """
    if options.left < LEAST:
        raise OutOfTimeError(f"no time was left for {', '.join(f'{key} {value}' for key, value in what.items())}")
    try:
        return what | measure(*arguments, options)
    except Exception as error:  # whatever a kernel, a library or the memory's end may raise
        torch.cuda.empty_cache()
        return what | {"failed": one_line(error)[:WORDS]}
