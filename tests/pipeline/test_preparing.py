"""Preparing over a cluster gives what this process alone gives."""

from functools import partial

import numpy as np
import pytest
from distributed.utils import color_of
from PIL import Image

from fanfold.data.datasets import Folder, prepare
from fanfold.data.errors import FanfoldError
from fanfold.data.store import open_store
from fanfold.pipeline.dashboard.listener import WorkTeller
from fanfold.pipeline.dashboard.plugin import install
from fanfold.pipeline.preparing import NAME, over
from tests.pipeline.conftest import PatternSource
from tests.waiting import wait_for


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Five classes of 40 small pictures, in the current folder, one of them cut short."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    for number in range(200):
        path = tmp_path / "pictures" / f"class {number % 5}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(path)
    whole = (tmp_path / "pictures/class 1/101.png").read_bytes()
    (tmp_path / "pictures/class 1/101.png").write_bytes(whole[:60])
    return Folder(source="pictures", store="by-threads.zarr", size=8)


def on_board(pair, name):
    """What the dashboard's page knows of a preparation."""

    def look(dask_scheduler):
        runs = dask_scheduler.plugins["fanfold"].board.runs.values()
        return [(run.state, run.progress) for run in runs if run.started["name"] == name]

    return pair.client.run_on_scheduler(look)


def spans(pair):
    def look(dask_scheduler):
        found = dask_scheduler.extensions["spans"].spans.values()
        return {span.name: {group.prefix.name for group in span.groups} for span in found}

    return pair.client.run_on_scheduler(look)


def test_workers_read_what_threads_read(pair, pictures, tmp_path):
    pair.client.run_on_scheduler(install)
    notices = []
    reading = over(pair, partial(WorkTeller, pair.client, "preparing", "some pictures"), notices.append)
    alone = prepare(pictures, progress=False)
    together = prepare(Folder(source="pictures", store="by-workers.zarr", size=8), progress=False, reading=reading)
    one, other = open_store(alone.path), open_store(together.path)
    assert one.digest == other.digest
    assert one.paths == other.paths
    assert one.pictures == 199
    assert any("1 picture was skipped" in line and "101.png" in line for line in together.told)
    assert not notices
    assert NAME in spans(pair)["prepare",]
    wait_for(lambda: [state for state, _ in on_board(pair, "some pictures")] == ["ended"])
    assert on_board(pair, "some pictures")[0][1]["pictures"] == 200


def test_a_strict_error_on_a_worker_ends_it_without_a_store(pair, pictures, tmp_path):
    strict = Folder(source="pictures", store="strict.zarr", size=8, strict=True)
    reading = over(pair, partial(WorkTeller, pair.client, "preparing", "strict ones"), print)
    with pytest.raises(FanfoldError, match=r"101\.png: can't be read .*; mend or remove it"):
        prepare(strict, progress=False, reading=reading)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_what_only_the_driver_can_read_is_read_by_it(pair):
    notices = []
    reading = over(pair, partial(WorkTeller, pair.client, "preparing", "patterns"), notices.append)
    source = PatternSource()
    batches = [[(0, 0, 8)], [(1, 0, 4), (1, 4, 8)]]
    found = list(reading(source, batches))
    assert [len(part) for batch in found for part in batch] == [8, 4, 4]
    assert notices == ["patterns is read by this process: workers read pictures of your own"]


def test_its_colour_is_none_of_a_runs():
    names = ("adapt", "fold", "step", "window", "validate", "meta-testing", "trial")
    assert color_of(NAME) not in {color_of(name) for name in names}
