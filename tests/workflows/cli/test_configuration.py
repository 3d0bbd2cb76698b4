import itertools
import re

import numpy as np
import pytest
import yaml

from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import SECTIONS, TaskConfig, TrainTask, to_yaml
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import Conv4, Conv4Stride, PluginModel
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.flags import in_flags
from fanfold.workflows.face.arguments import configured


def read(*argv):
    return parse(build_parser("workflows.train", "", argv, SECTIONS), argv)


def test_defaults_are_those_of_the_dataclasses():
    options = read()
    assert options.model == Conv4()
    assert options.meta == Meta()
    assert options.task == TaskConfig()
    assert options.dataset.name == "auto"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_variants_flags_are_known_in_every_order(order):
    words = [["--model.name", "conv4-stride"], ["--model.reduce=flatten"], ["--model.width", "8"]]
    options = read(*itertools.chain(*(words[place] for place in order)))
    assert options.model == Conv4Stride(width=8, reduce="flatten")


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_flag_that_the_chosen_variant_lacks_is_refused_in_every_order(order):
    words = [["--model.name", "conv4"], ["--model.reduce", "flatten"]]
    with pytest.raises(FanfoldError, match=r"Unknown flag --model.reduce"):
        read(*itertools.chain(*(words[place] for place in order)))


def test_help_names_all_variants_and_where_their_flags_are(capsys):
    page = " ".join(build_parser("workflows.prepare", "", [], ["dataset"]).format_help().split())
    assert "auto, omniglot, glyphs, cifar-fs, folder. Each has flags of its own: --dataset.name NAME --help" in page
    assert "--dataset.size" not in page
    assert "--dataset.size" in build_parser("", "", ["--dataset.name", "folder"], ["dataset"]).format_help()
    with pytest.raises(SystemExit):
        read("--config", "pictures", "--help")  # whose data set is a folder
    assert "--dataset.size" in capsys.readouterr().out


def test_what_is_true_or_false_is_true_without_a_value():
    options = read("--train.reflections", "--dataset.name", "folder", "--dataset.handwriting", "--dataset.strict")
    assert (options.dataset.strict, options.dataset.handwriting, options.train.reflections) == (True, True, True)
    assert not read("--train.reflections", "false").train.reflections


def test_the_last_word_decides_which_variant(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model:\n  name: conv4-stride\n  width: 16\ntask:\n  ways: 7\n")
    assert read("--config", str(file)).model == Conv4Stride(width=16)
    assert read("--model.name", "conv4", "--config", str(file)).model == Conv4Stride(width=16)
    assert read("--config", str(file), "--model.name", "conv4").model == Conv4(width=16)
    assert read("--config", str(file), "--task.ways", "9").task.ways == 9
    assert read("--config", str(file)).task == TaskConfig(ways=7)


def test_a_key_of_another_variant_in_the_file_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model:\n  name: conv4\n  reduce: mean\n")
    with pytest.raises(FanfoldError, match="reduce"):
        read("--config", str(file))


def test_ones_own_model_takes_arguments():
    options = read("--model.name", "package.module:Net", "--model.arguments", '{"depth": 3}')
    assert options.model == PluginModel("package.module:Net", {"depth": 3})


def test_a_resolved_configuration_reads_back_as_itself(tmp_path):
    argv = ["--model.name", "conv4-stride", "--task.shots", "5", "--meta.minutes", "2", "--train.queries", "3"]
    options = read(*argv)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml({section: getattr(options, section) for section in SECTIONS}))
    again = read("--config", str(file))
    assert all(getattr(again, section) == getattr(options, section) for section in SECTIONS)


@pytest.mark.parametrize("name", ["quickstart", "omniglot/maml-5way1shot"])
def test_the_configurations_that_come_along_are_read(name):
    from tests.environment import ROOT

    path = ROOT / "workflows" / "configs" / f"{name}.yaml"
    options = read("--config", str(path))
    assert options.task.ways == yaml.safe_load(path.read_text())["task"]["ways"]


def test_what_a_file_says_of_another_variant_than_the_chosen_one_is_left_out(tmp_path):
    """Where it means nothing to that, or something else."""
    file = tmp_path / "config.yaml"
    file.write_text("algorithm: {name: matching, every_turn: true, scale: 7}")
    assert read("--config", str(file)).algorithm.scale == 7
    assert read("--config", str(file), "--algorithm.name", "maml").algorithm == Maml()
    assert read("--config", str(file), "--algorithm.name", "nearest-mean").algorithm.scale is None
    omniglot = ["--config", "omniglot/protonet-5way1shot", "--dataset.name"]
    assert (read(*omniglot, "omniglot").dataset.split, read(*omniglot, "folder").dataset.split) == ("random1200", None)
    file.write_text("algorithm: {name: matching, none: 1}")
    with pytest.raises(FanfoldError, match=r"Unknown key 'algorithm.none'"):
        read("--config", str(file), "--algorithm.name", "maml")


@pytest.mark.parametrize(
    ("asked", "handwriting", "classes", "many", "shape"),
    [
        (TrainTask(), True, 9, True, EpisodeShape(5, 1, 2, rotations=True)),
        (TrainTask(), False, 9, True, EpisodeShape(5, 1, 2)),
        (TrainTask("many"), False, 100, True, EpisodeShape(20, 1, 2)),
        (TrainTask("many"), False, 9, True, EpisodeShape(9, 1, 2)),
        (TrainTask("many"), False, 9, False, EpisodeShape(5, 1, 2)),
        (TrainTask("many"), False, 1, True, EpisodeShape(5, 1, 2)),
        (TrainTask("many", queries="auto"), False, 9, True, EpisodeShape(9, 1, 2)),
        (TrainTask(queries="auto"), False, 0, True, EpisodeShape(5, 1, 1)),
        (TrainTask(rotations=True), False, 9, True, EpisodeShape(5, 1, 2, rotations=True)),
        (TrainTask(ways=20, rotations=False), True, 9, True, EpisodeShape(20, 1, 2)),
        (TrainTask(shots=3, queries=4), True, 9, True, EpisodeShape(5, 3, 4, rotations=True)),
    ],
)
def test_training_tasks_differ_only_where_told(asked, handwriting, classes, many, shape):
    counts = np.full(classes, 3)
    assert asked.shape(EpisodeShape(5, 1, 2), counts, handwriting=handwriting, many=many) == shape


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--foo", "3"], "Unknown flag --foo"),
        (["--task.wayz", "3"], "Unknown flag --task.wayz: see --help. Did you mean --task.ways?"),
        (["--meta.max_grad_norm", "1"], "Did you mean --meta.clip?"),
        (["--early-stopping", "3"], "Did you mean --evaluation.patience?"),
        (["stray"], "Unknown word 'stray'"),
        (["--task.ways", "many"], "--task.ways must be a whole number or auto, not 'many'"),
        (["--task.ways", "1"], "task.ways`? must be at least 2, not 1"),
        (["--train.ways", "1"], "train.ways`? must be at least 2, not 1"),
        (["--meta.batch", "0"], "--meta.batch must be at least 1, not 0"),
        (["--algorithm.name", "mamml"], "No algorithm 'mamml': there are maml.* Did you mean maml?"),
        (["--model.name", "resnet"], "No model 'resnet'.*package.module:Class"),
        (["--model.name", "torchvison/resnet18"], "Did you mean torchvision/resnet18?"),
        (["--dataset.name", "mnist"], "No dataset 'mnist'"),
        (["--cluster.kind", "gpu"], "No cluster 'gpu'.* Did you mean cuda?"),
        (["--cluster.kind", "127.0.0.1:8786"], "Did you mean tcp://127.0.0.1:8786?"),
        (["--config", "nowhere.yaml"], "nowhere.yaml can't be read .No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(argv, message):
    with pytest.raises(FanfoldError) as caught:
        read(*argv)
    assert re.search(message, in_flags(str(caught.value)))
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.status == 2


def test_an_algorithm_of_ones_own_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ridge_of_mine.py").write_text(
        "from dataclasses import dataclass, field\nfrom fanfold.tasks.algorithms.protonet import ProtoNet\n"
        "@dataclass(frozen=True)\nclass Ridge(ProtoNet):\n    weight: float = field(kw_only=True)\n"
    )
    with pytest.raises(FanfoldError, match=r"The class in ridge_of_mine.py is ridge_of_mine:CLASS"):
        read("--algorithm", "ridge_of_mine")
    with pytest.raises(FanfoldError, match=r"^--algorithm.weight is needed: .* or give the field a default"):
        read("--algorithm", "ridge_of_mine:Ridge")
    with pytest.raises(FanfoldError, match=r"^algorithm needs 'weight', as in .* or give the field a default"):
        configured("algorithm", {"name": "ridge_of_mine:Ridge"})


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not valid YAML"), ("- 1\n", "must be a YAML mapping")])
def test_a_file_that_is_no_configuration_is_said(tmp_path, content, message):
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(FanfoldError, match=message):
        read("--config", str(file))
