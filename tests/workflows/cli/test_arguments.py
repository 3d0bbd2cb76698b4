"""What is wrong with an argument is said in the words of the command line; what may be accepted is."""

from pathlib import Path

import pytest

from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.configs import find_config, shipped
from fanfold.workflows.cli.configuration import build_parser, parse
from fanfold.workflows.cli.flags import CONFIGURATION, in_flags
from fanfold.workflows.cli.suggestions import suggestions
from fanfold.workflows.evaluate import _data_apart
from fanfold.workflows.evaluate import main as evaluate
from fanfold.workflows.train import _run_to_resume


def read(*argv, sections=CONFIGURATION):
    parser = build_parser("workflows.train", "", argv, sections)
    if "task" in sections:
        parser.add_argument("--seed", type=int, default=0)
    return parse(parser, argv)


def refusal(*argv):
    with pytest.raises(FanfoldError) as caught:
        read(*argv)
    message = in_flags(str(caught.value))
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--cluster.workers", "two"], "--cluster.workers must be a whole number or null, not 'two'."),
        (["--meta.iterations", "1.5"], "--meta.iterations must be a whole number or null, not '1.5'."),
        (["--algorithm.first_order", "maybe"], "--algorithm.first_order must be true or false, not 'maybe'."),
        (["--meta.optimizer", "adma"], "--meta.optimizer must be adam or sgd, not 'adma'. Did you mean adam?"),
        (["--model.width", "1" + "0" * 400], "--model.width must be a whole number from -2^64 to 2^64, not 1000"),
        (["--meta.iterations", "1e30"], "must be a whole number from -2^64 to 2^64 or null, not 1e+30."),
        (["--model.width", "null"], "--model.width must be a whole number, not 'null'."),
        (["--meta.lr", "a\x1b[31m\n"], "--meta.lr must be a number, not 'a\N{REPLACEMENT CHARACTER}[31m"),
        (["--meta.lr", "x" * 300], f"--meta.lr must be a number, not '{'x' * 99}…'."),
        (["--meta.lr"], "--meta.lr needs a value: --meta.lr LR."),
        (["--meta.lr", "--seed", "1"], "--meta.lr needs a value"),
        (["--config"], "--config needs a value: --config CONFIG."),
        (["--config", "--seed", "1"], "--config needs a value"),
        (["--model.name", "--seed", "1"], "--model.name needs a value"),
        (["--meta.weight_decay", ".nan"], "--meta.weight_decay must be a number, not '.nan'."),
        (["--cluster.timeout", "1e999"], "--cluster.timeout must be a number, not '1e999'."),
        (["--algorithm", "mamml"], "No algorithm 'mamml'"),
        (["--meta", "{lr: much}"], "--meta '{lr: much}': meta.lr must be a number, not 'much'."),
        (["--dataset.size", "28"], "It belongs to --dataset.name folder."),
    ],
)
def test_a_wrong_flag(argv, message):
    assert message in refusal(*argv)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("meta: 5", "wrong.yaml: `meta:` must be a section, such as `meta: {KEY: VALUE}`, not 5."),
        ("algorithm: 7", "wrong.yaml: `algorithm:` must be a section, such as `algorithm: {name: …}`, not 7."),
        ("algorithm: [maml]", "`algorithm:` must be a section"),
        ("cluster: {kind: null}", "wrong.yaml: cluster.kind must be text, not null."),
        ("meta: {batch: many}", "wrong.yaml: meta.batch must be a whole number, not 'many'."),
        ("meta: {batches: 3}", "wrong.yaml: Unknown key 'meta.batches': see --help. Did you mean meta.batch?"),
        ("metas: {batch: 3}", "Unknown key 'metas'"),
        ("meta: {lr: 1, lr: 2}", "wrong.yaml is not valid YAML: the key lr is given twice."),
        ("meta: {lr: 1}\nmeta: {batch: 2}", "wrong.yaml is not valid YAML: the key meta is given twice."),
        ("a: &a [*a]", "wrong.yaml is not valid YAML: an alias refers to itself."),
    ],
)
def test_a_wrong_file(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text(content)
    assert message in refusal("--config", "wrong.yaml")


@pytest.mark.parametrize(
    "content",
    [
        "algorithm: anil\nmeta: {iterations: 1e4}\nseed: 3",
        "algorithm.name: anil\nmeta.iterations: 10000\nseed: 3\ntask:",
    ],
)
def test_short_forms_of_a_file(tmp_path, content):
    (tmp_path / "short.yaml").write_text(content)
    options = read("--config", str(tmp_path / "short.yaml"))
    assert (options.algorithm.name, options.meta.iterations, options.seed) == ("anil", 10_000, 3)
    assert type(options.meta.iterations) is int


def test_short_forms_of_flags():
    options = read("--algorithm", "anil", "--meta.iterations=1e4", "--meta", "{batch: 5}", "--task.ways", "7.0")
    assert options.algorithm.name == "anil"
    assert (options.meta.iterations, options.meta.batch, options.task.ways) == (10_000, 5, 7)


def test_a_command_leaves_out_what_others_take(tmp_path):
    (tmp_path / "all.yaml").write_text("dataset: glyphs\nmeta: {batch: 5}\nsearch: {trials: 3}\nseed: 4\n")
    assert read("--config", str(tmp_path / "all.yaml"), sections=["dataset"]).dataset.name == "glyphs"


FLAGS = {
    "--meta.lr": "Meta rate.",
    "--meta.batch": "Tasks a meta-batch.",
    "--meta.max_norm": "The largest norm of a meta-gradient; a larger one is clipped.",
    "--algorithm.inner_lr": "Inner rate.",
    "--train.ways": "Classes of a training task.",
    "--task.ways": "Classes of a task.",
    "--cluster.workers": "How many.",
}


@pytest.mark.parametrize(
    ("flag", "found"),
    [
        ("--meta.clipping", []),
        ("--meta.clipped", ["--meta.max_norm"]),
        ("--meta.batchs", ["--meta.batch"]),
        ("--batch", ["--meta.batch"]),
        ("--ways", ["--train.ways", "--task.ways"]),
        ("--train-ways", ["--train.ways"]),
        ("--meta.learning_rate", ["--meta.lr"]),
        ("--norm", ["--meta.max_norm"]),
        ("--xyz", []),
    ],
)
def test_suggestions_make_sense(flag, found):
    assert suggestions(flag, FLAGS) == found


def test_fanfolds_own_configurations_go_by_name_and_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(shipped())
    assert {"quickstart", "omniglot/protonet-5way1shot"} <= set(names)
    assert all(len(line) > 20 for line in names.values()), names
    assert read("--config", "omniglot/protonet-5way1shot").algorithm.name == "protonet"
    (tmp_path / "quickstart").write_text("task: {ways: 9}\n")
    assert read("--config", "quickstart").task.ways == 9
    for wrong in ("../spaces/maml", "omniglot/protonet-5way1sho"):
        assert "No configuration" in refusal("--config", wrong)
    assert find_config("omniglot/protonet-5way1shot.yaml") == find_config("omniglot/protonet-5way1shot")


def test_paths_may_be_no_utf_8():
    parser, odd = build_parser("workflows.train", "", [], []), "caf\udce9"
    parser.add_argument("--support", type=Path | None)
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    assert parse(parser, ["--support", odd]).support == Path(odd)
    with pytest.raises(FanfoldError, match=r"^A path that is no UTF-8 can't be given here: rename it"):
        parse(parser, ["--runs", odd])


def test_a_run_to_resume_or_to_look_at_is_named_and_resume_may_stand_anywhere():
    for argv in (["--resume", "--run", "run"], ["--run", "run", "--resume"], ["--resume=true", "--run", "run"]):
        assert _run_to_resume(argv) == "run"
    assert _run_to_resume(["--resume", "false", "--run", "run"]) is _run_to_resume(["--run", "run"]) is None
    for argv in (["--run"], ["--run", "--seed", "1"]):
        with pytest.raises(FanfoldError, match=r"^--run needs a value: --run RUN"):
            evaluate(argv)


def test_flags_of_other_data_take_no_other_flag_as_their_value():
    argv = ["--run", "run", "--dataset.source", "discs", "--dataset.strict", "--evaluation.tasks", "5"]
    of_data = ["--dataset.source", "discs", "--dataset.strict"]
    assert _data_apart([]) == ([], [])
    assert _data_apart(argv) == (["--run", "run", "--evaluation.tasks", "5"], of_data)
