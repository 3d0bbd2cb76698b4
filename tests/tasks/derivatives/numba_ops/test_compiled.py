"""Kernels are compiled once a machine, and a cache that can't be had ends nothing."""

import logging
import pickle
import shutil
import threading
import time
from dataclasses import replace
from itertools import pairwise

import numba
import pytest
from numba.core.dispatcher import Dispatcher

from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.derivatives import backends
from fanfold.tasks.derivatives.numba_ops import compiled, kernels
from fanfold.tasks.models import Conv4, Conv4Stride
from fanfold.tasks.network import as_network
from tests.tasks.reference import SIZE, WAYS, make_module, make_tasks


def twice(x):
    return 2 * x


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache's folder; no problem was met yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    monkeypatch.setattr(compiled, "_problems", [])
    return tmp_path / "cache"


def test_what_one_process_compiled_the_next_finds(folder):
    first, second = compiled.compiled(twice), compiled.compiled(twice)
    assert first(2.0) == second(2.0) == 4
    assert not first.stats.cache_hits
    assert second.stats.cache_hits
    assert compiled.problem() is None


def test_without_a_folder_to_write_to_functions_are_compiled_all_the_same(folder, caplog):
    folder.write_text("in the way")
    found = [compiled.compiled(twice)(2.0) for _ in range(2)]
    assert found == [4, 4]
    (line,) = caplog.messages
    assert "cannot cache function 'twice'" in line
    assert "NUMBA_CACHE_DIR" in line
    assert compiled.problem() == line


def test_a_cache_that_can_not_be_written_any_more_ends_nothing(folder, caplog):
    functions = [compiled.compiled(twice) for _ in range(2)]
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert [function(2.0) for function in functions] == [4, 4]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("damage", [b"", b"damaged", pickle.dumps("something else")], ids=["empty", "torn", "strange"])
def test_a_damaged_cache_is_written_anew(folder, damage, caplog):
    caplog.set_level(logging.ERROR)
    compiled.compiled(twice)(2.0)
    for path in folder.rglob("*.nbc"):
        path.write_bytes(damage)
    assert compiled.compiled(twice)(2.0) == 4
    after = compiled.compiled(twice)
    assert after(2.0) == 4
    assert after.stats.cache_hits


def test_one_process_compiles_at_a_time(folder):
    kernel, spans = compiled.compiled(twice), []

    def compile_it():
        with compiled.compiling_alone(kernel):
            began = time.monotonic()
            time.sleep(0.1)
            spans.append((began, time.monotonic()))

    threads = [threading.Thread(target=compile_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans.sort()
    assert len(spans) == 3
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_a_lock_that_is_never_free_is_not_waited_for_for_ever(folder, monkeypatch):
    kernel = compiled.compiled(twice)
    monkeypatch.setattr(compiled, "PATIENCE", 0.1)
    with compiled.compiling_alone(kernel), compiled.compiling_alone(kernel):
        pass


@pytest.mark.parametrize("algorithm", [Maml(), Reptile()], ids=["maml", "reptile"])
@pytest.mark.parametrize("model", [Conv4(width=2), Conv4Stride(width=2)], ids=["pooled", "strided"])
def test_everything_that_training_calls_is_compiled_before(monkeypatch, algorithm, model):
    called = set()

    def noting(name, kernel):
        def call(*arguments):
            called.add((name, tuple(map(numba.typeof, arguments))))
            return kernel(*arguments)

        call.stats = kernel.stats
        return call

    for name, kernel in list(vars(kernels).items()):
        if isinstance(kernel, Dispatcher) and not name.startswith("_") and name != "moments":  # no kernel calls these
            monkeypatch.setattr(kernels, name, noting(name, kernel))
    backends.compile_kernels.__wrapped__()
    compiled_before = called.copy()
    called.clear()
    network, tasks = as_network(make_module(model).float(), SIZE, WAYS), make_tasks(3)
    tasks = replace(tasks, support=tasks.support.float(), query=tasks.query.float())
    algorithm.meta_gradient(network, algorithm.initialize(network), 0, tasks)
    assert called
    assert called <= compiled_before
