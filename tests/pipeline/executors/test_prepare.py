"""What workers do before the first window."""

from dataclasses import replace

from fanfold.pipeline.cluster import results
from fanfold.pipeline.events import KernelsCompiling
from fanfold.pipeline.executors.prepare import prepare_workers


def test_compiling_is_told_where_it_takes_more_than_a_moment(recipe, pair, monkeypatch):
    told = []
    prepare_workers(pair, recipe, told.append)
    monkeypatch.setattr(results, "SLOW", 0.0)
    prepare_workers(pair, recipe, told.append)
    assert told[-1:] == [KernelsCompiling(2)]
    told.clear()
    prepare_workers(pair, replace(recipe, meta=replace(recipe.meta, together=True)), told.append)
    assert told == []
