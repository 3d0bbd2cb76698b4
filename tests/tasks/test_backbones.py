"""Networks of torchvision and timm: their weights, frozen or not, and the pictures that they were trained on."""

from dataclasses import replace
from io import BytesIO

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from fanfold.data.errors import FanfoldError
from fanfold.tasks import given
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.backbones import Backbone, _network, preprocess, resolved, unfilled, weights_digest, weights_of
from fanfold.tasks.learner import Learner, fixed
from fanfold.tasks.models import build_network
from fanfold.tasks.network import as_network, batch_statistics
from fanfold.tasks.parameters import flatten
from tests.tasks.reference import make_tasks

SIZE = (32, 32)
NAME = "torchvision/mobilenet_v3_small"


@pytest.fixture(scope="module")
def trained():
    """A network of torchvision as its weights' file holds it, with statistics that aren't those of the start."""
    torch.manual_seed(3)
    module = models.mobilenet_v3_small(weights=None)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return module.eval()


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(trained.state_dict(), path)
    return path


def network_of(model, ways=None, channels=3):
    return as_network(build_network(model, ways or 2, SIZE, 0, channels), SIZE, ways, channels=channels)


def expected(trained, images):
    """The embeddings, by torchvision's own transform and forward pass."""
    transforms = models.get_model_weights("mobilenet_v3_small").DEFAULT.transforms()
    coloured = images.expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(part)[:, None, None] for part in (transforms.mean, transforms.std))
    found = []
    hook = trained.classifier[-1].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        trained((coloured - mean) / std)
    hook.remove()
    return found[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frozen_network_embeds_as_torchvisions_own_and_each_picture_by_itself(trained, file, channels):
    network = network_of(Backbone(NAME, str(file), freeze=True), channels=channels)
    network.train(True)
    images = torch.rand(5, channels, *SIZE, generator=torch.Generator().manual_seed(0))
    found = network({}, images)
    torch.testing.assert_close(found, expected(trained, images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network({}, images[:1]), found[:1], rtol=1e-4, atol=1e-5)
    assert network.frozen
    assert not network.normalizes_by_batch
    assert len(flatten(network.initial())) == 0


def test_a_frozen_body_leaves_the_head_to_be_learnt(file):
    model = Backbone(NAME, str(file), freeze=True)
    network = network_of(model, ways=3)
    assert list(network.shapes) == ["head.weight", "head.bias"]
    assert network.frozen
    before = weights_digest(network)
    tasks = make_tasks(2, size=32)
    tasks = replace(tasks, **{k: getattr(tasks, k).float().expand(-1, -1, 3, -1, -1) for k in ("support", "query")})
    vector = flatten(network.initial())
    found = Maml(inner_steps=2, inner_lr=0.1).meta_gradient(network, vector, 0, tasks)
    assert found.gradient.shape == vector.shape
    assert found.gradient.abs().max() > 0
    assert weights_digest(network) == before
    assert weights_digest(network) != weights_digest(network_of(replace(model, weights="none"), ways=3))


def test_trained_networks_keep_the_weights_statistics_or_take_the_batchs(file):
    fixed_ones = network_of(Backbone(NAME, str(file)))
    by_batch = network_of(Backbone(NAME, str(file), statistics="batch"))
    anew = network_of(Backbone(NAME))
    assert not fixed_ones.frozen
    assert [one.normalizes_by_batch for one in (fixed_ones, by_batch, anew)] == [False, True, True]
    assert fixed_ones.shapes == by_batch.shapes == anew.shapes
    images = torch.rand(4, 3, *SIZE)
    theta = fixed_ones.initial()
    assert batch_statistics(fixed_ones, theta, images) == {}
    for name, value in fixed_ones.kept().items():
        assert not name.endswith("running_var") or value.min() >= 0.5
    fixed_ones.train(False)  # without dropout
    torch.testing.assert_close(fixed_ones(theta, images)[:1], fixed_ones(theta, images[:1]), rtol=1e-4, atol=1e-5)


def test_files_are_read_whoever_wrote_them(trained, file, tmp_path):
    state = trained.state_dict()
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "b")
    found = [resolved(Backbone(NAME, str(path))) for path in (file, tmp_path / "a.safetensors", tmp_path / "b")]
    assert len({model.sha256 for model in found}) == 1
    assert safetensors.torch.load(weights_of(found[0])).keys() == state.keys()


def test_workers_build_by_the_sha256_what_they_were_sent(file, monkeypatch):
    model = resolved(Backbone(NAME, str(file), freeze=True))
    here = weights_digest(network_of(model))
    assert weights_digest(network_of(replace(model, weights="/elsewhere.pth"))) == here
    monkeypatch.setattr(given, "_pickled", {})
    with pytest.raises(FanfoldError, match=r"`model\.weights=/elsewhere\.pth` can't be read"):
        network_of(replace(model, weights="/elsewhere.pth"))


def test_other_weights_than_those_of_the_run_are_refused(file, tmp_path):
    model = resolved(Backbone(NAME, str(file)))
    other = tmp_path / "other.pth"
    torch.save({"x": torch.zeros(1)}, other)
    with pytest.raises(FanfoldError, match="holds other weights than those of this run"):
        resolved(replace(model, weights=str(other)))


def test_a_damaged_file_of_weights_is_refused_in_a_line(tmp_path):
    path, content = tmp_path / "old.pt", BytesIO()
    torch.save({"a": torch.ones(3)}, content, _use_new_zipfile_serialization=False)
    whole = content.getvalue()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FanfoldError, match=r"old\.pt` (can't be read|holds)"):
            resolved(Backbone(NAME, str(path)))
    for name in ("a", "", 0):
        torch.save({name: torch.tensor([1.0, float("nan")])}, path)
        with pytest.raises(FanfoldError, match=f"the tensor '{name}' is not finite"):
            resolved(Backbone(NAME, str(path)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.0.0.weight"), r"features.0.0.weight is missing\.$"),
        (lambda state: state.update(more=torch.zeros(2)), r"more is none of its tensors\.$"),
        (
            lambda state: state.update({"features.0.0.weight": torch.zeros(1)}),
            r"features.0.0.weight is \[1\], not \[16, 3, 3, 3\]\.$",
        ),
        (lambda state: state.clear() or state.update(x=torch.zeros(1)), "and 2.. more"),
    ],
)
def test_weights_that_do_not_fit_are_named(trained, tmp_path, change, message):
    state = trained.state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(FanfoldError, match=message):
        network_of(Backbone(NAME, str(tmp_path / "w.pth")))


def test_weights_for_other_classes_fit(trained, tmp_path):
    state = trained.state_dict() | {"classifier.3.weight": torch.zeros(7, 1024), "classifier.3.bias": torch.zeros(7)}
    torch.save(state, tmp_path / "w.pth")
    network_of(Backbone(NAME, str(tmp_path / "w.pth")))


@pytest.mark.parametrize("content", [b"", b"no weights", None, [1], {"a": 1}, "code"])
def test_files_without_weights_are_told(tmp_path, content):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "code":
        torch.save(nn.Linear(1, 1), path)  # which loading would execute
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(FanfoldError, match=r"^`model.weights=.*w.pth` (can't be read|holds)") as caught:
        resolved(Backbone(NAME, str(path)))
    assert "\n" not in str(caught.value)


def test_weights_that_can_not_be_downloaded(no_network, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FanfoldError, match=r"mobilenet_v3_small can't be downloaded .* by `model.weights`\.$"):
        resolved(Backbone(NAME, "DEFAULT"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Backbone("torchvision/resnet81"), "torchvision has no model 'resnet81': similar are resnet"),
        (Backbone("torchvision/squeezenet1_0"), "no linear layer"),
        (Backbone("torchvision/vit_b_16", size=20), r"doesn't take pictures of 20 × 20 .*`model.size=224`"),
        (Backbone("torchvision/alexnet"), r"doesn't take pictures of 32 × 32 .*`model.size=224`"),
    ],
)
def test_networks_that_can_not_be_had(model, message):
    with pytest.raises(FanfoldError, match=message):
        build_network(model, 2, SIZE, 0, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "model.size"),
        ({"freeze": True, "statistics": "batch"}, "model.freeze"),
        ({"statistics": "fixed"}, "needs statistics"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(FanfoldError, match=message):
        Backbone(NAME, **settings)


def test_pictures_are_scaled_before_they_go_in(trained, file):
    model = Backbone(NAME, str(file), freeze=True, size=64)
    found = network_of(model)
    images = torch.rand(2, 3, *SIZE)
    larger = nn.functional.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    torch.testing.assert_close(found({}, images), expected(trained, larger), rtol=1e-4, atol=1e-5)


def test_what_pictures_a_network_was_trained_on():
    assert preprocess(Backbone(NAME)) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_learner_needs_no_file_of_weights_where_its_tensors_are_kept(file):
    for model in (resolved(Backbone(NAME, str(file))), Backbone(NAME, freeze=True)):
        built = as_network(build_network(model, 2, SIZE, 7, 3), SIZE, None, channels=3)
        parameters, kept = flatten(built.initial()), {name: value.clone() for name, value in built.kept().items()}
        learner = Learner(ProtoNet(), model, SIZE, 3, None, parameters, {}, kept=kept)
        facts = learner.facts()
        assert facts["model"]["weights"] == "none"
        again = Learner.from_facts(facts, parameters, kept)
        images = torch.rand(3, 3, *SIZE)
        assert torch.equal(again.encoder(images), learner.encoder(images))
        assert torch.equal(again.encoder(images), fixed(built, built.initial(), {})(images))
        assert unfilled(again.model) == again.model


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_that_normalizes_pictures_as_it_was_trained_does_so_from_kept_tensors(name):
    trained = Backbone(f"torchvision/{name}", "elsewhere", freeze=True, sha256="0" * 64)
    assert _network(trained.name, (96, 96), trained.starts_from_weights).transform_input
    assert _network(trained.name, (96, 96), unfilled(trained).starts_from_weights).transform_input
    assert not Backbone(trained.name).starts_from_weights


def test_timms_networks():
    pytest.importorskip("timm")
    import timm

    torch.manual_seed(0)
    module = timm.create_model("test_vit.r160_in1k", num_classes=9).eval()
    assert preprocess(Backbone("timm/test_vit.r160_in1k")).size == 160
    given.receive("0" * 64, safetensors.torch.save(module.state_dict()))
    model = Backbone("timm/test_vit.r160_in1k", "elsewhere", freeze=True, size=160, sha256="0" * 64)
    images = torch.rand(2, 1, *SIZE)
    larger = nn.functional.interpolate(images, (160, 160), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
    with torch.no_grad():
        wanted = module.forward_head(module.forward_features((larger - 0.5) / 0.5), pre_logits=True)
    torch.testing.assert_close(network_of(model, channels=1)({}, images), wanted, rtol=1e-4, atol=1e-5)
    assert network_of(replace(model, size=None)).outputs == wanted.shape[1]  # its embeddings of places are resized
    with pytest.raises(FanfoldError, match="timm has no model 'test_vti': similar are test_vit"):
        network_of(Backbone("timm/test_vti"))
