"""Dask's own pages tell the phases of a run apart: by span, and by the colour of its tasks."""

import itertools
from dataclasses import replace

import pytest
from distributed.utils import color_of
from optuna.distributions import FloatDistribution

from fanfold.pipeline import evaluation
from fanfold.pipeline.configuration import EvaluationConfig
from fanfold.pipeline.evaluation import STREAM_NAMES
from fanfold.pipeline.executors.graph import map_graph, window_graph
from fanfold.pipeline.recording.run_directory import RunDirectory
from fanfold.pipeline.search.config import SearchConfig
from fanfold.pipeline.search.driver import Candidate, Search
from fanfold.pipeline.search.space import Dimension, Space
from fanfold.pipeline.search.study import make_pruner, open_study
from fanfold.pipeline.training import Job, train
from fanfold.pipeline.worker import initialize

SPACE = Space((Dimension("lr", FloatDistribution(1e-4, 1e-2)),))
EVALUATION = EvaluationConfig(every=10, validation_tasks=6, tasks=6, other_tasks=0)


def spans(cluster):
    """The names of the scheduler's spans, how many there are of each, and the prefixes of their tasks."""

    def look(dask_scheduler):
        found = {}
        for span in dask_scheduler.extensions["spans"].spans.values():
            count, prefixes = found.get(span.name, (0, set()))
            found[span.name] = count + 1, prefixes | {group.prefix.name for group in span.groups}
        return found

    return cluster.client.run_on_scheduler(look)


@pytest.mark.parametrize(
    ("reduction", "tasks"),
    [("graph", {"prepare", "start", "adapt", "fold", "step"}), ("collective", {"prepare", "window"})],
)
def test_the_phases_of_a_run_are_spans(pair, recipe, tmp_path, reduction, tasks):
    name = f"run by {reduction}"
    cluster, directory = replace(pair, reduction=reduction).part(name), RunDirectory(tmp_path)
    directory.create("seed: 3\n")
    last = train(cluster, recipe, EVALUATION, directory)
    evaluation.test(cluster, recipe, last.best, EVALUATION)

    found = {span: told for span, told in spans(pair).items() if span[0] == name}
    assert found == {
        (name,): (1, set()),
        (name, "meta-training"): (1, tasks),  # one, however many windows it has
        (name, "validation"): (1, {"shared", "validate"}),
        (name, "test"): (1, {"shared", "meta-testing"}),
    }


def test_the_trials_of_a_search_are_spans(pair, recipe, tmp_path):
    config = SearchConfig(trials=2, pruner="none")
    job = Job(replace(recipe, meta=replace(recipe.meta, iterations=4)), EVALUATION)
    with open_study(tmp_path / "study.db", "study", make_pruner(config, 10, 20)) as study:
        Search(pair, study, SPACE, config, 0, lambda _: Candidate(job, "seed: 0\n"), tmp_path / "trials").run()

    found = {span: prefixes for span, (_, prefixes) in spans(pair).items() if span[0] == tmp_path.name}
    search = (tmp_path.name,)
    assert found == {search: set(), (*search, "trial 0"): {"trial"}, (*search, "trial 1"): {"trial"}}


def test_what_runs_outside_a_part_belongs_to_no_span_of_a_run(pair):
    inner = pair.part("outer").part("inner")
    with inner.labelled():
        labelled = pair.client.submit(int, 1, key="labelled-0")
    unlabelled = pair.client.submit(int, 2, key="unlabelled-0")
    assert (labelled.result(), unlabelled.result()) == (1, 2)

    by_prefix = {prefix: span for span, (_, prefixes) in spans(pair).items() for prefix in prefixes}
    assert by_prefix["labelled"] == ("outer", "inner")
    assert by_prefix["unlabelled"] == ("default",)


def test_no_two_phases_have_like_colours(recipe):
    """Dask paints tasks by a hash of their names, in one of 18 colours from dark to light, that all eyes tell apart."""
    state = initialize(recipe)
    graphs = [
        window_graph("run", recipe, state, 1),
        *(graph for name in STREAM_NAMES.values() for graph in map_graph(name, "run", int, [], [()])),
    ]
    names = {key[0].removesuffix("-run") for graph in graphs for key in graph.dask.to_dict()} | {"trial", "window"}
    seen = names - {"start"}  # which takes no time
    assert seen == {"adapt", "fold", "step", "window", "validate", "meta-testing", "trial"}
    distances = {pair: abs(lightness(color_of(pair[0])) - lightness(color_of(pair[1]))) for pair in pairs(seen)}
    assert min(distances.values()) > 6, min(distances, key=distances.get)


def pairs(names):
    return itertools.combinations(sorted(names), 2)


def lightness(colour):
    """CIE L* of a colour `#rrggbb`, 0 for black to 100 for white."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance
