"""The suite's tests that need a CUDA device, in several processes: compiling kernels takes most of their time."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.options import Options, Row, need_cuda
from benchmarks.gpu.pool import processes
from fanfold.data.errors import RunError

PYTEST = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--tb", "short"]


def measure(options: Options) -> Iterator[Row]:
    """A row for each test that failed, and one for all."""
    need_cuda(options)
    files = [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if _concerned(path.read_text())]
    tests = [line for line in _pytest("--collect-only", *files).stdout.splitlines() if "::" in line]
    if not tests:
        raise RunError("pytest finds no test that is marked gpu")
    count = min(processes(options), len(tests))
    with ThreadPoolExecutor(count) as threads:
        runs = list(threads.map(lambda first: _pytest(*tests[first::count]), range(count)))
    options.beside("tests.txt").write_text("".join(ran.stdout + ran.stderr for ran in runs))
    yield from rows_of([(ran.returncode, ran.stdout) for ran in runs])


def rows_of(runs: Sequence[tuple[int, str]]) -> Iterator[Row]:
    """The rows of some runs of pytest: of each its exit status and what it said."""
    summaries = []
    for _, said in runs:
        lines = said.splitlines()
        for line in lines:
            if found := re.match(r"(FAILED|ERROR) (\S+)(?: - (.*))?", line):
                yield {"test": found[2], "passed": False, "said": (found[3] or "")[:200]}
        summary = re.search(r"\d+ (?:passed|failed|error|skipped|deselected).*", lines[-1] if lines else "")
        summaries.append(summary[0] if summary else "no summary")
    passed = all(status == 0 for status, _ in runs)
    yield {"test": "all marked gpu", "passed": passed, "said": "; ".join(summaries)}


def _pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PYTEST, *arguments], check=False, capture_output=True, text=True)


def _concerned(text: str) -> bool:
    """Whether a file may have such tests, and can be collected without a browser, which few GPU machines have."""
    return "gpu" in text.lower() and "tests.browser" not in text
