"""Searching for a configuration, as a person does it."""

import json
import re
from itertools import pairwise

import pytest
import yaml
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.search.study import count, open_study
from fanfold.tasks.algorithms.registry import TRAINED
from fanfold.workflows import train
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.cli.search_options import read_options
from fanfold.workflows.cli.search_space import SPACES, as_flags, default_space, read_default_space, read_space
from fanfold.workflows.reporting.search import plain_ticks
from fanfold.workflows.search import main
from tests.environment import ROOT
from tests.lines import lines
from tests.workflows.conftest import SMALL, wait_while_running

SPACE = """
algorithm.inner_lr: {low: 1e-2, high: 1, log: true}
algorithm.inner_steps: {low: 1, high: 2}
algorithm.differentiation: {choices: [auto, reverse]}
meta.lr: {low: 0.0001, high: 0.1, log: true}
"""
SEARCH = [
    *(word for word in SMALL if word not in ("--algorithm.inner_lr", "0.1")),
    *("--meta.iterations", "12", "--evaluation.every", "2", "--evaluation.other_tasks", "0", "--search.trials", "6"),
    *("--search.space", "space.yaml", "--run", "found"),
]


def states(folder):
    with open_study(folder / "study.db", "maml-3way1shot", NopPruner()) as study:
        return count(study)


def test_a_search_killed_half_way_and_started_again_ends_as_asked(
    pictures, tmp_path, start, monkeypatch, capsys, joined
):
    (tmp_path / "space.yaml").write_text(SPACE)
    arguments = [*SEARCH, "--dataset.source", str(pictures)]
    running = start("search", *arguments, *joined)
    wait_while_running(running, (tmp_path / "found/trials/0002/config.yaml").exists)
    running.kill()
    running.wait(20)
    before = states(tmp_path / "found")
    assert 0 < before.all < 6

    monkeypatch.chdir(tmp_path)
    main([*arguments, *joined])
    said = capsys.readouterr().out
    assert f"goes on from {before.all} trials" in said
    found, result = tmp_path / "found", json.loads((tmp_path / "found" / "result.json").read_text())
    after = states(found)
    assert (after.all, after.running, after.failed) == (6, 0, 0)
    assert [path.name for path in sorted((found / "trials").iterdir())] == [f"{number:04}" for number in range(6)]
    assert (result["trials"], result["finished"], result["pruned"]) == (6, after.finished, after.pruned)
    assert (result["transductive"], result["tests"], result["chosen_by"]) == (True, 1, "validation accuracy")
    assert f"trial {result['trial']} did best of 6 on validation classes" in said

    for trial in (found / "trials").iterdir():
        shown = EventAccumulator(str(trial / "tensorboard"), {"scalars": 0}).Reload()
        metrics = lines(trial / "metrics.jsonl")
        assert [point.step for point in shown.Scalars("train/loss")] == [line["iteration"] for line in metrics]
        settings = HParamsPluginData.FromString(
            shown.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        ).session_start_info.hparams
        config = yaml.safe_load((trial / "config.yaml").read_text())
        assert settings["algorithm.inner_lr"].number_value == config["algorithm"]["inner_lr"]
    assert not (found / "best" / "tensorboard").exists()  # the viewer would show the best trial twice

    page = (found / "report.html").read_text()
    assert page.count("<h2>") == 6
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="?http', page)  # it opens without a net
    assert {path.name for path in found.glob("*.png")} == {
        *("history.png", "rungs.png", "importance.png", "slices.png", "parallel.png")
    }

    # The best configuration is one for `train`, and leads to the very same parameters.
    best = str(found / "best" / "config.yaml")
    train.main(["--config", best, "--run", "trained", "--report", "false", *joined])
    again = json.loads((tmp_path / "trained" / "result.json").read_text())
    for key in ("parameters_sha256", "tested_sha256", "test_accuracy", "validation_accuracy"):
        assert again[key] == result[key]

    # What is done is not done again, and test classes are not looked at again.
    main([*arguments, *joined])
    assert json.loads((found / "result.json").read_text())["tests"] == 1
    assert states(found).all == 6
    with pytest.raises(FanfoldError) as caught:
        main([*arguments, "--meta.lr", "0.5", "--search.pruner", "none"])
    assert in_flags(str(caught.value)) == (
        "The search in found must agree with its run: --search.pruner (was asha, now none), "
        "--meta.lr (was 0.001, now 0.5)."
    )


@pytest.mark.parametrize("algorithm", sorted(TRAINED))
def test_every_algorithm_has_a_default_space(algorithm):
    space = read_space(
        default_space(algorithm),
        {"algorithm": algorithm, "model": "conv4"},
        lambda params: read_options(["--algorithm.name", algorithm, *as_flags(params)]),
    )
    assert "meta.lr" in [dimension.key for dimension in space.dimensions]
    assert {path.stem for path in SPACES.iterdir()} == set(TRAINED)
    with pytest.raises(FanfoldError, match=r"no default space for ridge:Ridge: write one, .*`search.space`"):
        default_space("ridge:Ridge")


def read(tmp_path, content):
    (tmp_path / "space.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    chosen = {"algorithm": "maml", "model": "conv4"}
    return read_space(tmp_path / "space.yaml", chosen, lambda params: read_options(as_flags(params)))


def test_the_page_s_space_can_be_searched(tmp_path):
    (content,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "searching.md").read_text(), re.DOTALL)
    assert len(read(tmp_path, content).dimensions) == 4


def test_ranges_are_of_the_type_that_the_configuration_wants(tmp_path):
    space = read(
        tmp_path, "meta.lr: {low: 1e-4, high: 1, log: true}\nalgorithm.inner_steps: {low: 1, high: 5, step: 2}\n"
    )
    assert [dimension.values for dimension in space.dimensions] == [
        FloatDistribution(1e-4, 1.0, log=True),
        IntDistribution(1, 5, step=2),
    ]


def test_variants_may_be_searched_with_what_each_has(tmp_path):
    content = {
        "algorithm.inner_batch": {"choices": [5, 10], "when": {"algorithm.name": "reptile"}},
        "algorithm.inner_lr": {"low": 0.01, "high": 1.0, "log": True},
        "algorithm.name": {"choices": ["maml", "reptile"]},
    }
    space = read(tmp_path, content)
    keys = [dimension.key for dimension in space.dimensions]
    assert keys.index("algorithm.name") < keys.index("algorithm.inner_batch")
    by_key = {dimension.key: dimension for dimension in space.dimensions}
    assert by_key["algorithm.inner_batch"].counts({"algorithm.name": "reptile"})
    assert not by_key["algorithm.inner_batch"].counts({"algorithm.name": "maml"})
    del content["algorithm.inner_batch"]["when"]
    with pytest.raises(FanfoldError, match=r"algorithm.inner_batch: .*algorithm.inner_batch"):  # MAML has none
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("algorithm.inner_lr: [", "The space .* is not valid YAML"),
        ("- 1", "must name keys, such as"),
        ("meta.lr: 3", "meta.lr: say what values it may take"),
        ("meta.lr: {low: 1}\nmeta.lr: {low: 2}", "the key meta.lr is given twice"),
        ({"algorithm.inner_rl": {"low": 1, "high": 2}}, "no such key.*Did you mean algorithm.inner_lr?"),
        ({"algorithm.inner_batch": {"choices": [5]}}, "algorithm.inner_batch: there is no such key"),
        ({"meta.lr": {"low": 1, "hihg": 2}}, "meta.lr: `hihg` means nothing here.*Did you mean high?"),
        ({"meta.lr": {"low": 1}}, "meta.lr: it lacks `high`"),
        ({"meta.lr": {"low": 2, "high": 1}}, r"meta.lr: `low` \(2\) is above `high` \(1\): exchange them"),
        ({"meta.lr": {"low": 0, "high": 1, "log": True}}, "meta.lr: a log scale needs `low` above 0, not 0"),
        ({"meta.lr": {"low": 0, "high": 1}}, "meta.lr: `meta.lr` must be above 0, not 0.0"),
        ({"meta.lr": {"low": "few", "high": 1}}, "meta.lr: `low` must be a number, not 'few'"),
        ({"meta.lr": {"low": 0.1, "high": 1, "log": "yes"}}, "`log` must be true or false, not yes"),
        ({"meta.lr": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}, "`log` and `step` don't go together"),
        ({"meta.lr": {"low": 0.1, "high": 1, "step": 0.4}}, "steps of 0.4 don't lead from 0.1 to 1"),
        ({"meta.lr": {"low": -1e308, "high": 1e308, "step": 1}}, "steps of 1 don't lead from"),
        ({"algorithm.inner_steps": {"low": 10**400, "high": 3}}, "`low` must be a whole number"),
        ({"meta.lr": {"choices": [0.1], "low": 1}}, "both `choices` and `low`"),
        ({"algorithm.inner_steps": {"low": 1.5, "high": 3}}, "`low` must be a whole number"),
        ({"algorithm.inner_steps": {"low": 0, "high": 3}}, "algorithm.inner_steps`? must be at least 1, not 0"),
        ({"algorithm.first_order": {"low": 0, "high": 1}}, "it is true or false, which has no range: give `choices`"),
        ({"algorithm.first_order": {"choices": [True, "maybe"]}}, "--algorithm.first_order must be true or false"),
        ({"algorithm.first_order": {"choices": True}}, "`choices` must be a list"),
        ({"algorithm.first_order": {"choices": [True, True]}}, "is given twice"),
        ({"meta.optimizer": {"choices": ["adam", "lion"]}}, "meta.optimizer: .*lion"),
        ({"meta.lr": {"choices": [1], "when": {"meta.optimiser": "adam"}}}, "names meta.optimiser, which the space"),
        (
            {"meta.optimizer": {"choices": ["adam"]}, "meta.lr": {"choices": [1], "when": {"meta.optimizer": "sgd"}}},
            "wants meta.optimizer to be sgd, which is none of its choices",
        ),
        (
            {"meta.optimizer": {"choices": ["adam"]}, "meta.lr": {"choices": [1], "when": {"meta.optimizer": 0}}},
            "wants meta.optimizer to be 0, which is none of its choices",
        ),
        (
            {"meta.average": {"low": 0, "high": 0.9}, "meta.lr": {"choices": [1], "when": {"meta.average": 0}}},
            "names meta.average, which is a range",
        ),
        ({"meta.lr": {"choices": [1], "when": "sgd"}}, "`when` must name keys and their values"),
        ({"meta.lr": {"choices": [1], "when": {"meta.lr": 1}}}, "its condition depends on itself"),
        ({"task.ways": {"choices": [5]}}, "task.ways: it decides how trials are judged"),
        ({"evaluation.validation_tasks": {"low": 1, "high": 5}}, "it decides how trials are judged"),
        ({"seed": {"choices": [1, 2]}}, "seed: it decides how trials are judged"),
    ],
)
def test_what_is_wrong_in_a_space_is_said_in_one_line(tmp_path, content, message):
    with pytest.raises(FanfoldError, match=message) as caught:
        read(tmp_path, content)
    assert "space.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_default_space_leaves_out_what_the_data_can_not_take():
    """Twelve classes, some of few pictures: 20 ways are too many, and 10 ways leave pictures for five queries alone."""

    def check(params):
        options = read_options(["--algorithm.name", "protonet", *as_flags(params)])
        ways, queries = options.train.ways or 5, options.train.queries or 1
        if ways > 12 or (ways > 5 and queries > 5):
            raise FanfoldError(f"too many: {ways} {queries}.")

    space, told = read_default_space(default_space("protonet"), {"algorithm": "protonet", "model": "conv4"}, check)
    found = {dimension.key: dimension.probes for dimension in space.dimensions}
    assert (found["train.ways"], found["train.queries"]) == ((5, 10), (3, 5))
    assert told == [
        "`train.ways` is not searched at 20, 40 or 60: too many: 20 1.",
        "`train.queries` is not searched at 10: too many: 10 10.",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--search.space", "nowhere.yaml"], "nowhere.yaml can't be read"),
        (["--search.rung", "3"], r"`search.rung` must be a multiple of `evaluation.every` \(2\)"),
        (["--search.rung", "12"], "There is no rung before the end"),
        (["--search.sampler", "grid"], "A grid needs points: give algorithm.inner_lr, meta.lr a `step` or `choices`"),
        (["--search.sampler", "bayes"], "--search.sampler"),
        (["--meta.iterations", "null", "--meta.minutes", "1"], "A search needs trials of one length"),
    ],
)
def test_what_can_not_be_searched_is_refused_before_anything_starts(tmp_path, pictures, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    with pytest.raises(FanfoldError, match=message) as caught:
        main([*SEARCH, "--dataset.source", str(pictures), *argv])
    assert caught.value.status == 2
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("low", "high"), [(0.0013, 0.0079), (0.0011, 0.011), (0.02, 0.5), (1e-4, 1e-1), (0.0012, 0.0016)]
)
def test_labels_on_a_logarithmic_axis_of_the_slices_lie_apart(low, high):
    figure = Figure(figsize=(2.2, 3))
    axis = figure.subplots()
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    plain_ticks(axis)
    figure.canvas.draw()
    labels = [*axis.get_xticklabels(), *axis.get_xticklabels(minor=True)]
    boxes = [box for label in labels if label.get_text() and (box := label.get_window_extent()).width]
    seen = sorted((box.x0, box.x1) for box in boxes if axis.bbox.x0 <= (box.x0 + box.x1) / 2 <= axis.bbox.x1)
    assert len(seen) >= 2
    assert all(end < begin for (_, end), (begin, _) in pairwise(seen))
