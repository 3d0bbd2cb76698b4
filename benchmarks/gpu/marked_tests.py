"""The suite's tests that need a CUDA device: some files at once, as most of their time goes to compiling kernels."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.options import Options, Row, need_cuda
from benchmarks.gpu.pool import processes
from data.errors import RunError

NONE = 5  # pytest's exit status where a file has no such test


def measure(options: Options) -> Iterator[Row]:
    """A row for each test that failed, and one for each file that has such tests, with what pytest says in the end."""
    need_cuda(options)
    files = [path for path in sorted(Path("tests").rglob("test_*.py")) if _concerned(path.read_text())]
    log = options.beside("tests.txt")
    with ThreadPoolExecutor(processes(options)) as threads:
        runs = list(zip(files, threads.map(_ran, files), strict=True))
    log.write_text("".join(ran.stdout + ran.stderr for _, ran in runs))
    with_tests = [(path, ran) for path, ran in runs if ran.returncode != NONE]
    if not with_tests:
        raise RunError("no test is marked gpu")
    for path, ran in with_tests:
        yield from rows_of(str(path), ran.returncode, ran.stdout)


def rows_of(name: str, status: int, said: str) -> Iterator[Row]:
    """The rows of a file of tests: of pytest's exit status, and of what it said."""
    lines = said.splitlines()
    for line in lines:
        if failed := re.match(r"(FAILED|ERROR) (\S+)(?: - (.*))?", line):
            yield {"test": failed[2], "passed": False, "said": (failed[3] or "")[:200]}
    summary = re.search(r"\d+ (?:passed|failed|error|skipped|deselected).*", lines[-1] if lines else "")
    yield {"test": name, "passed": status == 0, "said": summary[0] if summary else "no summary"}


def _ran(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--tb", "short", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _concerned(text: str) -> bool:
    """Whether a file may have such tests, and can be collected without a browser, which few GPU machines have."""
    return "gpu" in text.lower() and "tests.browser" not in text
