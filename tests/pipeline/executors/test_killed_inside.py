"""A worker that is killed inside a chunk, a fold or a step changes nothing, by graph and by gang."""

from dataclasses import replace
from uuid import uuid4

import pytest

from benchmarks.faults.cases.workers import IN_WORKERS
from benchmarks.faults.hook import Moment, install
from fanfold.pipeline import worker
from fanfold.pipeline.executors.choose import open_executor
from tests.pipeline.reference import alone, assert_same


@pytest.mark.parametrize(("place", "reduction"), IN_WORKERS)
def test_a_worker_killed_at_any_moment_changes_nothing(trio, recipe, tmp_path, place, reduction):
    mark = tmp_path / "mark"
    trio.client.run(install, Moment("worker", IN_WORKERS[place, reduction], 2, "SIGKILL", str(mark)))
    with open_executor(replace(trio, reduction=reduction), recipe, uuid4().hex[:8], lambda _: None) as executor:
        found = executor.window(worker.initialize(recipe), 4)
    assert mark.exists()
    assert_same(found, alone(recipe, 4))
