from dataclasses import replace

import dask
import numpy as np
from dask.utils import key_split

from fanfold.pipeline import worker as work
from fanfold.pipeline.executors.graph import EMBEDDED, SIDE_BY_SIDE, evaluation_chunks, evaluation_graph, window_graph
from fanfold.pipeline.fold import FAN_IN
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.episodes import Stream
from fanfold.tasks.predictions import join
from tests.pipeline.reference import run_alone


def count_names(graph):
    names = [key_split(key) for key in graph]
    return {name: names.count(name) for name in set(names)}


def test_a_windows_graph_computes_what_the_plain_loop_does(recipe):
    state = run_alone(recipe, 2)
    (through_dask,) = dask.compute(window_graph("0123abcd", recipe, state, 3), scheduler="sync")
    alone = run_alone(recipe, 3, work.without_records(state))
    assert through_dask.parameters.tobytes() == alone.parameters.tobytes()
    assert through_dask.records == alone.records
    assert [record.iteration for record in alone.records] == [2, 3, 4]


def test_its_tasks_are_named_for_the_dashboard(recipe):
    graph = window_graph("0123abcd", recipe, work.initialize(recipe), 3).dask
    assert count_names(graph) == {"start": 1, "adapt": 12, "fold": 3, "step": 3}


def test_wide_meta_batches_fold_in_a_tree(recipe):
    wide = replace(recipe, meta=replace(recipe.meta, batch=3 * (2 * FAN_IN + 1)))
    graph = window_graph("0123abcd", wide, work.initialize(wide), 1).dask
    assert count_names(graph) == {"start": 1, "adapt": 2 * FAN_IN + 1, "fold": 4, "step": 1}
    (folded,) = dask.compute(window_graph("0123abcd", wide, work.initialize(wide), 1), scheduler="sync")
    assert folded.parameters.tobytes() == run_alone(wide, 1).parameters.tobytes()


def test_keys_of_two_runs_differ(recipe):
    state = work.initialize(recipe)
    one, other = (set(window_graph(run, recipe, state, 2).dask) for run in ("0123abcd", "0123abce"))
    assert not one & other


def test_a_test_is_spread_over_chunks_in_order(recipe):
    parameters = work.initialize(recipe).parameters
    chunks = evaluation_graph("0123abcd", recipe, parameters, Stream.TEST, 8, "batch")
    assert [chunk.key for chunk in chunks] == [
        ("meta-testing-0123abcd", 0),
        ("meta-testing-0123abcd", 1),
        ("meta-testing-0123abcd", 2),
    ]
    accuracies = join(dask.compute(*chunks, scheduler="sync")).accuracies
    np.testing.assert_array_equal(
        accuracies, work.test(recipe, "batch", parameters, None, Stream.TEST, 0, 8).accuracies
    )


def test_tasks_are_tested_in_larger_chunks_where_each_image_is_embedded_once(recipe):
    assert evaluation_chunks(recipe, 8, "batch") == [(0, 3), (3, 6), (6, 8)]
    assert evaluation_chunks(recipe, EMBEDDED + 3, "population") == [(0, EMBEDDED), (EMBEDDED, EMBEDDED + 3)]


def test_a_test_by_the_populations_statistics_takes_them_once(recipe):
    inductive = replace(recipe, algorithm=ProtoNet())
    parameters = work.initialize(inductive).parameters
    tasks = EMBEDDED + 3
    chunks = evaluation_graph("0123abcd", inductive, parameters, Stream.VALIDATION, tasks, "population")
    assert count_names(chunks[0].dask) == {"parameters": 1, "statistics": 1, "validate": 2}
    accuracies = join(dask.compute(*chunks, scheduler="sync")).accuracies
    population = work.statistics(inductive, parameters)
    alone = work.test(inductive, "population", parameters, population, Stream.VALIDATION, 0, tasks).accuracies
    assert accuracies.shape == (tasks,)
    np.testing.assert_allclose(accuracies, alone)


def test_a_test_side_by_side_has_chunks_of_so_many_images(recipe):
    together = replace(recipe, meta=replace(recipe.meta, together=True))  # 3 support images and 6 queries a task
    assert evaluation_chunks(together, SIDE_BY_SIDE, "batch")[0] == (0, SIDE_BY_SIDE // 9)
    assert evaluation_chunks(together, SIDE_BY_SIDE, "single")[0] == (0, SIDE_BY_SIDE // (3 + 6 * 4))
    large = replace(together, task=replace(together.task, queries=SIDE_BY_SIDE))
    assert evaluation_chunks(large, 8, "batch") == [(0, 3), (3, 6), (6, 8)]
