"""`import fanfold`: what is asked in Python, handed over, and said."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import fanfold
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.workflows.face.arguments import ask, read_base
from fanfold.workflows.face.train import MINUTES, _length
from fanfold.workflows.face.words import in_arguments
from tests.environment import outcome

SCRIPT = """
import sys
import fanfold
assert "torch" not in sys.modules
small = {"tasks": 10, "other_tasks": 0, "validation_tasks": 10}
store = fanfold.prepare("pictures", size=16)
run = fanfold.train(store, ways=3, iterations=2, batch=2, cluster=1, path="run", evaluation=small)
print("trained", run.result["iterations"])
"""


class Tiny(nn.Module):
    def __init__(self, ways, width=4):
        super().__init__()
        layers = [nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2), nn.Flatten()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width * 9, ways)

    def forward(self, images):
        return self.head(self.features(images))


def of_a_notebook() -> tuple[type[nn.Module], type[ProtoNet]]:
    """A model's class and an algorithm's, for which no name stands."""

    class Own(Tiny):
        pass

    @dataclass(frozen=True)
    class Mine(ProtoNet):
        name: str = "mine"
        temperature: float = 1.0

    return Own, Mine


@pytest.fixture(scope="module")
def store(pictures, tmp_path_factory):
    return fanfold.prepare(pictures, tmp_path_factory.mktemp("stores") / "pictures.zarr", size=16, progress=False)


@pytest.fixture
def train(store, cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **options):
        small = {"ways": 3, "batch": 2, "evaluation": {"tasks": 10, "other_tasks": 0, "validation_tasks": 10}}
        return fanfold.train(store, *arguments, **{**small, "cluster": cluster.client, "progress": False, **options})

    return run


def sha256(run):
    return run.result["parameters_sha256"]


def test_objects_give_the_same_bits_as_names(train):
    own_model, own_algorithm = of_a_notebook()
    named = sha256(train("protonet", model=f"{__name__}:Tiny", iterations=3))
    assert sha256(train("protonet", model=Tiny, iterations=3)) == named
    assert sha256(train("protonet", model=own_model, iterations=3)) == named
    assert sha256(train(own_algorithm(temperature=2.0), model=own_model, iterations=3)) == named
    torch.manual_seed(0)
    module = Tiny(3)
    assert sha256(train("protonet", model=module, iterations=3)) == named  # the seed is that of the run
    nn.init.zeros_(module.features[0].weight)
    assert sha256(train("protonet", model=module, iterations=3)) != named  # a module is taken as it is


def test_a_run_of_objects_goes_on_when_they_are_handed_over_again(train):
    own_model, own_algorithm = of_a_notebook()
    run = train(own_algorithm(), model=own_model, iterations=2, path="run")
    with pytest.raises(fanfold.FanfoldError, match=r"^The algorithm Mine was handed over in Python.* algorithm=…"):
        fanfold.load("run", model=own_model)
    with pytest.raises(fanfold.FanfoldError, match=r"^The model Own was handed over in Python.* model=…"):
        train(algorithm=own_algorithm(), path="run", resume=True, iterations=4)
    longer = train(own_algorithm(), model=own_model, path="run", resume=True, iterations=4)
    assert longer.result["iterations"] == 4
    assert sha256(longer) == sha256(train("protonet", model=Tiny, iterations=4))
    loaded = fanfold.load(run.path, model=own_model, algorithm=own_algorithm())
    assert loaded.test().accuracy == longer.accuracy  # in this process as on the workers
    assert loaded.test(20, ways=4, queries=2).keys["queries"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 1}, "ways must be at least 2, not 1."),
        ({"ways": "many"}, "ways must be a whole number or auto, not 'many'."),
        ({"ways": 2**65}, r"ways must be a whole number from -2\^64 to 2\^64 or auto, not 36893488147419103232."),
        ({"meta": {"average": 1}}, 'meta={"average": …} must be from 0 to below 1, not 1.0.'),
        ({"meta": {"lrr": 1}}, r"meta has no field 'lrr'.* Did you mean lr\?"),
        ({"algorithm": "protonett"}, r"No algorithm 'protonett': .* Did you mean protonet\?"),
        ({"algorithm": ProtoNet}, r"algorithm must be an object, not a class: give ProtoNet\(\), with parentheses."),
        ({"split": "vinyals"}, 'split="vinyals": doesn\'t fit'),
        ({"model": Tiny(5)}, r"The model must give logits \[2, 3\] for two images, not \[2, 5\]."),
        ({"model": 3}, "model must be a name, a mapping such as .*, or a torch.nn.Module or its class, not 3."),
        ({"algorithm": 3}, "algorithm must be a name, a mapping such as .*, or an algorithm of .*, not 3."),
        ({"task": 5}, "task must be a mapping of fields to values, not 5."),
        ({"meta": {"batch": 3}}, "batch is given twice, by itself and in meta: leave one out."),
        ({"cluster": 3.5}, "cluster must be a number of workers, an address, .*, not 3.5."),
        ({"cluster": "tpu"}, "No cluster 'tpu'"),
        ({"resume": True}, "resume=True needs path: the directory of the run to go on with."),
        ({"resume": True, "path": "nowhere"}, "nowhere holds no run to resume"),
        ({"resume": True, "path": "nowhere", "config": "pictures"}, "config and resume: give one"),
    ],
)
def test_errors_name_arguments(train, arguments, message):
    with pytest.raises(fanfold.FanfoldError, match=message) as caught:
        train(**{"algorithm": "maml", "iterations": 2, **arguments})
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)


def test_arguments_of_other_kinds_and_names_are_told():
    for call, said in (
        (fanfold.prepare, "source"),
        (fanfold.train, "data"),
        (fanfold.load, "path"),
        (fanfold.learn, "support"),
    ):
        with pytest.raises(fanfold.FanfoldError, match=f"^{said} must be .*, not 42"):
            call(42)
    with pytest.raises(fanfold.FanfoldError, match=r"^flip must be True or False, not 'no'"):
        fanfold.learn("support", "torchvision/resnet18", flip="no")
    for name, meant in (("way", "ways"), ("n_way", "ways"), ("learning_rate", "lr"), ("epochs", "iterations")):
        with pytest.raises(
            TypeError, match=rf"^train\(\) got an unexpected keyword argument '{name}'. Did you mean {meant}\?$"
        ):
            fanfold.train(**{name: 5})
    with pytest.raises(fanfold.FanfoldError, match=r"^cluster has no field 'dashbord'.* Did you mean dashboard\?$"):
        fanfold.cluster(dashbord=":0")  # it takes any, and tells those that a cluster hasn't


def test_a_configuration_is_read_as_the_command_reads_it(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("meta.lr: 2e-3\nalgorithm: anil\nevaluation:\nseed: 3\n")
    found = ask(read_base(file), {}).configuration
    assert (found.meta.lr, found.algorithm.name, found.seed) == (0.002, "anil", 3)
    assert ask(read_base("omniglot/protonet-5way1shot"), {}).configuration.meta.iterations == 4000
    for text, message in (
        ("metta: {}", r"mine.yaml: unknown key 'metta'.* Did you mean meta\?"),
        ("meta: 3", r"mine.yaml: `meta:` must be a section"),
        ("seed: x", r"`seed` must be a whole number, not 'x'"),
    ):
        file.write_text(text)
        with pytest.raises(fanfold.FanfoldError, match=message):
            ask(read_base(file), {})


def test_a_training_whose_length_nobody_says_takes_minutes():
    minutes = {"iterations": None, "minutes": MINUTES}
    assert _length({}, {}) == _length({"meta": {"lr": 0.01}}, {}) == minutes
    assert _length({"meta": {"minutes": 5}}, {}) == _length({}, {"minutes": 5}) == {"iterations": None}
    assert _length({"meta": {"iterations": 5}}, {}) == _length({}, {"iterations": 5}) == {}


def test_what_puts_answers_in_doubt_is_said(pictures, cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = pictures / "alphabet0"
    small = {"tasks": 10, "other_tasks": 0, "validation_tasks": 10}
    options = {"ways": 3, "batch": 2, "lr": 1e-9, "model": Tiny, "meta": {"checkpoint": 1}, "evaluation": small}
    run = fanfold.train(few, iterations=2, path="run", cluster=cluster.client, **options)
    shown = capsys.readouterr()
    assert "classes validate and test, as there are only 8" in " ".join((shown.out + shown.err).split())
    (run.path / "checkpoints" / "last.safetensors").write_bytes(b"damaged")
    with pytest.raises(fanfold.FanfoldError, match=r"^tasks must be 0 or at least 2, not 1\.$"):
        run.report(tasks=1)
    tested = run.test()
    assert "is used, of iteration" in tested.notes[0]
    assert str(tested).endswith("\n".join(tested.notes))
    with pytest.warns(UserWarning, match="is used, of iteration"):
        run.learn(few)


def test_an_own_algorithm_is_searched_over(train, store, cluster):
    own_model, own_algorithm = of_a_notebook()
    found = fanfold.search(
        store,
        own_algorithm(),
        model=own_model,
        space={"algorithm.temperature": {"choices": [2.0, 3.0]}},
        iterations=1,
        trials=1,
        ways=3,
        batch=2,
        cluster=cluster.client,
        evaluation={"every": 1, "tasks": 10, "other_tasks": 0, "validation_tasks": 10},
        search={"pruner": "none"},
        progress=False,
    )
    assert found.params["algorithm.temperature"] == found.best.config["algorithm"]["temperature"]
    assert found.best.test(10).accuracy.tasks == 10


def test_the_same_pictures_are_the_same_store_again(pictures, tmp_path):
    files = {place.name: sorted(place.iterdir()) for place in (pictures / "alphabet0").iterdir()}
    arrays = np.random.default_rng(0).random((4, 8, 8))
    for source, other, labels in (
        (files, {**files, "class0": files["class1"]}, None),
        (arrays, 1 - arrays, [1, 1, 2, 2]),
    ):
        options = {"path": tmp_path / f"{type(source).__name__}.zarr", "labels": labels, "progress": False}
        made = fanfold.prepare(source, **options)
        assert fanfold.prepare(source, **options).attributes == made.attributes
        for changed, size in ((other, None), (source, 12)):
            with pytest.raises(fanfold.FanfoldError, match=r"exists already, of other pictures or settings"):
                fanfold.prepare(changed, size=size, **options)


def test_messages_of_any_kind_become_python():
    said = "Give `meta.minutes` or --task.ways 5, or `prepare dataset.name=folder dataset.source=x overwrite=true`."
    assert in_arguments(said) == 'Give minutes or ways=5, or fanfold.prepare("x", overwrite=True).'
    assert in_arguments("no report (`report 'run=my runs/1'` tries again)") == (
        'no report (fanfold.load("my runs/1").report() tries again)'
    )
    assert in_arguments("`dask worker --nthreads 1` as it is") == "`dask worker --nthreads 1` as it is"


def test_a_script_needs_no_guard_and_an_empty_folder(pictures, environment, tmp_path):
    (tmp_path / "pictures").symlink_to(pictures)
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = outcome([sys.executable, "script.py"], tmp_path, environment)
    assert ran.stdout == "trained 2\n", ran.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "script.py", "stores", "run"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"^The folder nowhere holds no run: train one with fanfold\.train"),
        (".", r"^The folder \. holds runs, and is none: name one, such as first\.$"),
        ("fanfold:omniglot", r"^fanfold:omniglot is for fanfold\.learn alone"),
    ],
)
def test_what_is_no_run_is_said(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.yaml").touch()
    with pytest.raises(fanfold.FanfoldError, match=message):
        fanfold.load(name)
