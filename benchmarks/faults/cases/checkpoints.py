"""Damaged and foreign checkpoints: the one before is used, and the bad one named."""

from collections.abc import Callable
from functools import partial

from safetensors import safe_open

from benchmarks.faults.case import Case
from benchmarks.faults.trial import LONG, REDUCTIONS, Trial, WrongError
from fanfold.pipeline.files import write_bytes
from fanfold.pipeline.tensor_file import pack


def cut_short(content: bytes, _: Trial) -> bytes:
    """Its second half is missing."""
    return content[: len(content) // 2]


def flipped(content: bytes, _: Trial) -> bytes:
    """A bit of its tensors is flipped."""
    found = bytearray(content)
    found[-len(found) // 4] ^= 1
    return bytes(found)


def of_other_model(_: bytes, trial: Trial) -> bytes:
    """That of a run with a narrower network."""
    other = Trial(trial.folder / "other", trial.store, trial.reduction, stage=trial.stage)
    command = ["4" if word == "8" and before == "--model.width" else word for before, word in _pairs(other.command())]
    if (ended := other.call(command)).status:
        raise WrongError(f"the other run: {ended.errors[-1]}")
    return other.directory.last.read_bytes()


def of_other_schema(_: bytes, trial: Trial) -> bytes:
    """Sound, but in a format that isn't known."""
    with safe_open(trial.directory.last, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it can't be iterated
    return pack({"format": 99}, tensors)


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(["", *words], words, strict=False))


def replaced(by: Callable[[bytes, Trial], bytes], trial: Trial, reference: str) -> str:
    """The last checkpoint is another one when the run goes on after its driver was killed."""
    last = trial.directory.last
    trial.disturb(lambda driver: driver.kill())
    write_bytes(last, by(last.read_bytes(), trial))
    found = trial.run()
    named = [line.strip() for line in found.said.splitlines() if last.name in line and "checkpoint" in line.lower()]
    if not named:
        raise WrongError("the bad checkpoint is not named")
    return f"{named[0]}; {trial.finish(reference, most=1)}"


KINDS: dict[str, Callable[[bytes, Trial], bytes]] = {
    "cut short": cut_short,
    "with a bit flipped": flipped,
    "of another model": of_other_model,
    "of another schema": of_other_schema,
}
CASES = tuple(
    Case(f"last checkpoint {kind}", REDUCTIONS[row % 2], partial(replaced, by), LONG, joins=True)
    for row, (kind, by) in enumerate(KINDS.items())
)
