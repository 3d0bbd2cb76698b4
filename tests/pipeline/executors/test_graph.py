from dataclasses import replace

import dask
import numpy as np
from dask.utils import key_split

from fanfold.pipeline import worker
from fanfold.pipeline.executors.graph import GraphExecutor, map_graph, window_graph
from fanfold.pipeline.executors.local import plain_window
from fanfold.pipeline.fold import FAN_IN
from tests.pipeline.reference import alone, assert_same


def count_names(graph):
    names = [key_split(key) for key in graph]
    return {name: names.count(name) for name in set(names)}


def test_a_windows_graph_computes_what_the_plain_loop_does(recipe):
    state = alone(recipe, 2).state
    (through_dask,) = dask.compute(window_graph("0123abcd", recipe, state, 3), scheduler="sync")
    expected = plain_window(recipe, state, 3)
    assert_same(through_dask, expected)
    assert [record.iteration for record in expected.records] == [2, 3, 4]


def test_a_window_longer_than_a_graph_may_be_is_several_graphs(pair, recipe):
    short = replace(recipe, meta=replace(recipe.meta, window=2))
    executor = GraphExecutor(pair, short)
    assert_same(executor.window(worker.initialize(recipe), 5), alone(recipe, 5))


def test_its_tasks_are_named_for_the_dashboard(recipe):
    graph = window_graph("0123abcd", recipe, worker.initialize(recipe), 3).dask
    assert count_names(graph) == {"start": 1, "adapt": 12, "fold": 3, "step": 3}


def test_wide_meta_batches_fold_in_a_tree(recipe):
    wide = replace(recipe, meta=replace(recipe.meta, batch=3 * (2 * FAN_IN + 1)))
    graph = window_graph("0123abcd", wide, worker.initialize(wide), 1).dask
    assert count_names(graph) == {"start": 1, "adapt": 2 * FAN_IN + 1, "fold": 4, "step": 1}
    (folded,) = dask.compute(window_graph("0123abcd", wide, worker.initialize(wide), 1), scheduler="sync")
    assert_same(folded, alone(wide, 1))


def test_keys_of_two_runs_differ(recipe):
    state = worker.initialize(recipe)
    one, other = (set(window_graph(run, recipe, state, 2).dask) for run in ("0123abcd", "0123abce"))
    assert not one & other


def ordered(first, second, place):
    return first, second, place


def test_what_is_mapped_comes_back_in_order_with_what_all_share(pair, recipe):
    executor, array = GraphExecutor(pair, recipe), np.arange(3)
    found = executor.map("ordered", ordered, [array, {"key": None}], [(place,) for place in range(7)])
    assert [place for _, _, place in found] == list(range(7))
    assert all((first == array).all() and second == {"key": None} for first, second, _ in found)


def test_what_is_shared_stands_in_a_graph_once(recipe):
    graph = map_graph("tested", "0123abcd", ordered, [np.zeros(2), None], [(place,) for place in range(7)])[0].dask
    assert count_names(graph) == {"shared": 2, "tested": 7}
