"""Predictions for test tasks: the same however their chunks are spread."""

from dataclasses import replace

import numpy as np

from fanfold.pipeline import worker
from fanfold.pipeline.evaluation import EMBEDDED, VECTORIZED_IMAGES, evaluation_chunks, predict
from fanfold.pipeline.executors.graph import GraphExecutor
from fanfold.pipeline.executors.local import LocalExecutor
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.episodes import Stream


def test_a_test_is_spread_but_the_same(pair, recipe):
    parameters = worker.initialize(recipe).parameters
    whole = worker.test(recipe, "batch", Stream.TEST, parameters, None, 0, 8).accuracies
    for executor in (LocalExecutor(recipe), GraphExecutor(pair, recipe)):
        found = predict(executor, recipe, parameters, Stream.TEST, 8, "batch").accuracies
        np.testing.assert_array_equal(found, whole)


def test_a_test_by_the_populations_statistics_takes_them_once(pair, recipe):
    inductive = replace(recipe, algorithm=ProtoNet())
    parameters, tasks = worker.initialize(inductive).parameters, EMBEDDED + 3
    population = worker.statistics(inductive, parameters)
    whole = worker.test(inductive, "population", Stream.VALIDATION, parameters, population, 0, tasks).accuracies
    for executor in (LocalExecutor(inductive), GraphExecutor(pair, inductive)):
        found = predict(executor, inductive, parameters, Stream.VALIDATION, tasks, "population").accuracies
        assert found.shape == (tasks,)
        np.testing.assert_allclose(found, whole)


def test_tasks_are_tested_in_larger_chunks_where_each_image_is_embedded_once(recipe):
    assert evaluation_chunks(recipe, 8, "batch") == [(0, 3), (3, 6), (6, 8)]
    assert evaluation_chunks(recipe, EMBEDDED + 3, "population") == [(0, EMBEDDED), (EMBEDDED, EMBEDDED + 3)]


def test_a_test_that_is_vectorized_has_chunks_of_so_many_images(recipe):
    vectorized = replace(recipe, meta=replace(recipe.meta, together=True))  # 3 support images and 6 queries a task
    assert evaluation_chunks(vectorized, VECTORIZED_IMAGES, "batch")[0] == (0, VECTORIZED_IMAGES // 9)
    assert evaluation_chunks(vectorized, VECTORIZED_IMAGES, "single")[0] == (0, VECTORIZED_IMAGES // (3 + 6 * 4))
    large = replace(vectorized, task=replace(vectorized.task, queries=VECTORIZED_IMAGES))
    assert evaluation_chunks(large, 8, "batch") == [(0, 3), (3, 6), (6, 8)]
