"""The processes that judge inputs, and their records: one that dies at an input is followed by another after that."""

import json
import multiprocessing
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.fuzz.judging import Outcome, bound_memory, judged
from benchmarks.fuzz.kinds import KINDS

SAVED = 100  # inputs between two records of a process
STUCK = 300  # seconds at an input after which a process is ended: no signal reached it
OUTCOMES = ("accepted", "refused", "failed")


@dataclass(frozen=True)
class Task:
    """The inputs to judge."""

    scratch: Path  # a folder for inputs and records
    turns: tuple[str, ...]  # the kinds of successive inputs, over and over
    inputs: int
    seed: int
    processes: int

    def kind(self, number: int) -> str:
        """The kind of an input."""
        return self.turns[number % len(self.turns)]


class Record:
    """What a process has found so far, in a file."""

    def __init__(self, scratch: Path, rank: int) -> None:
        self.path = scratch / f"record-{rank}.json"
        self.now = scratch / f"now-{rank}"  # the input that is judged
        self.next, self.seconds = rank, 0.0
        self.kinds, self.refusals = dict[str, dict[str, int]](), dict[str, dict[str, int]]()
        self.failures: list[dict[str, Any]] = []
        self.deadly: list[int] = []  # inputs at which a process died
        if self.path.exists():
            vars(self).update(json.loads(self.path.read_text()))

    def note(self, task: Task, number: int, found: Outcome) -> None:
        """Note what came of an input."""
        kind = task.kind(number)
        self.kinds.setdefault(kind, dict.fromkeys(OUTCOMES, 0))[found.outcome] += 1
        if found.outcome == "refused":
            lines, line = self.refusals.setdefault(kind, {}), _shape(found.line)
            lines[line] = lines.get(line, 0) + 1
        elif found.outcome == "failed":
            self.failures.append({"kind": kind, "index": number, "why": found.line[-3000:]})
            print(f"{kind} {number}: {found.line.strip().splitlines()[-1][:250]}", flush=True)
        self.next = number + task.processes

    def save(self) -> None:
        """Write the record, whole or not at all."""
        content = {name: vars(self)[name] for name in ("next", "seconds", "kinds", "refusals", "failures", "deadly")}
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps(content))
        partial.replace(self.path)


def run(task: Task) -> dict[str, Any]:
    """Judge all inputs, in processes of their own. Returns their records as one, with failures judged once more."""
    task.scratch.mkdir(parents=True, exist_ok=True)
    context, waiting = multiprocessing.get_context("spawn"), dict[int, Any]()
    left = set(range(task.processes))
    while left:
        for rank in sorted(left):
            process, now = waiting.get(rank), Record(task.scratch, rank).now
            if process is None or process.exitcode:
                if process is not None:
                    _note_death(task, rank, process.exitcode)
                now.unlink(missing_ok=True)
                waiting[rank] = context.Process(target=judge_all, args=(task, rank))
                waiting[rank].start()
            elif process.exitcode == 0:
                left.remove(rank)
            elif now.exists() and time.time() - now.stat().st_mtime > STUCK:
                process.kill()
        time.sleep(0.5)
    found = together([Record(task.scratch, rank) for rank in range(task.processes)], task.seed)
    for failure in found["failures"]:  # by the present code, where the inputs were judged by that of before
        failure["now"] = judged(KINDS, task.seed, failure["kind"], failure["index"], task.scratch / "again").outcome
    return found


def judge_all(task: Task, rank: int) -> None:
    """Judge every so many-th input, from where the record ends."""
    torch.set_num_threads(1)
    bound_memory()
    root = task.scratch / f"process-{rank}"
    shutil.rmtree(root, ignore_errors=True)
    for kind in dict.fromkeys(task.turns):  # what is imported and made once
        judged(KINDS, task.seed, kind, 0, root)
    record, began = Record(task.scratch, rank), time.monotonic()
    before = record.seconds
    for number in range(record.next, task.inputs, task.processes):
        record.now.write_text(str(number))
        if record.deadly.count(number) > 1:
            found = Outcome("failed", "its process died, twice")
        else:
            found = judged(KINDS, task.seed, task.kind(number), number, root)
        record.note(task, number, found)
        if number // task.processes % SAVED == 0:
            record.seconds = before + time.monotonic() - began
            record.save()
    record.seconds = before + time.monotonic() - began
    record.save()


def _note_death(task: Task, rank: int, status: int) -> None:
    """Note the input that a process died at; the next process begins at the last record, and tries it once more."""
    record = Record(task.scratch, rank)
    if not record.now.exists():
        raise RuntimeError(f"process {rank} ended with status {status} before its first input")
    record.deadly.append(int(record.now.read_text()))
    record.save()


def together(records: Sequence[Record], seed: int) -> dict[str, Any]:
    """The records of all processes as one."""
    kinds = {kind: Counter[str]() for kind in KINDS if any(kind in record.kinds for record in records)}
    found = Counter[tuple[str, str]]()
    for record in records:
        for kind, counts in record.kinds.items():
            kinds[kind].update(counts)
        for kind, lines in record.refusals.items():
            found.update({(kind, line): count for line, count in lines.items()})
    return {
        "seed": seed,
        "inputs": sum(sum(counts.values()) for counts in kinds.values()),
        "processes": len(records),
        "seconds": round(max(record.seconds for record in records), 1),
        "kinds": {kind: {name: counts[name] for name in OUTCOMES} for kind, counts in kinds.items()},
        "refusals": [{"kind": kind, "line": line, "inputs": count} for (kind, line), count in found.most_common(10)],
        "failures": [failure for record in records for failure in record.failures],
    }


def _shape(line: str) -> str:
    """A refusal without names and numbers."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|\d[\d,.]*", "…", line)[:160]
