"""The suite's tests that need a CUDA device."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.options import Options, Row, need_cuda


def measure(options: Options) -> Iterator[Row]:
    """A row for each test that failed, and one for all."""
    need_cuda(options)
    files = [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if _concerned(path.read_text())]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "--tb", "short", *files]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    options.beside("tests.txt").write_text(ran.stdout + ran.stderr)
    lines = ran.stdout.splitlines()
    for line in lines:
        if found := re.match(r"(FAILED|ERROR) (\S+)(?: - (.*))?", line):
            yield {"test": found[2], "passed": False, "said": (found[3] or "")[:200]}
    summary = re.search(r"\d+ (?:passed|failed|error|skipped|deselected).*", lines[-1] if lines else "")
    yield {"test": "all marked gpu", "passed": ran.returncode == 0, "said": summary[0] if summary else "no summary"}


def _concerned(text: str) -> bool:
    """Whether a file may have such tests, and can be collected without a browser, which few GPU machines have."""
    return "gpu" in text.lower() and "tests.browser" not in text
