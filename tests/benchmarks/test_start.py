"""Every benchmark begins: few are run by tests."""

from importlib import import_module
from pathlib import Path

import pytest

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_all_that_it_imports(name):
    assert callable(import_module(f"benchmarks.{name}").main)
