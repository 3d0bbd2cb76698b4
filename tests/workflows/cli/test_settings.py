"""Settings that are read from a source agree with the classes that it defines."""

import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

from fanfold.data.datasets import DATASETS
from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.registry import ALGORITHMS
from fanfold.tasks.backbones import Backbone
from fanfold.tasks.models import MODELS, PluginModel
from fanfold.workflows.cli.flags import BACKBONE, PLUGIN_MODEL, SECTIONS, variants
from fanfold.workflows.cli.listeners import Recording
from fanfold.workflows.cli.settings import is_section, real, settings
from tests.environment import outcome

PAIRS = [
    *((variants("algorithm")[name], kind) for name, kind in ALGORITHMS.items()),
    *((variants("model")[name], kind) for name, kind in MODELS.items()),
    *((variants("dataset")[name], kind) for name, kind in DATASETS.items()),
    (settings(PLUGIN_MODEL), PluginModel),
    (settings(BACKBONE), Backbone),
    (settings(SECTIONS["record"]), Recording),
]


def described(kind):
    hints = get_type_hints(kind)
    return [(field.name, hints[field.name], field.default, field.hash, field.kw_only) for field in fields(kind)]


@pytest.mark.parametrize(("reduced", "kind"), PAIRS, ids=lambda kind: kind.__name__)
def test_reduced_settings_are_those_of_the_class(reduced, kind):
    assert described(reduced) == described(kind)
    assert " ".join(reduced.__doc__.split()) == " ".join(kind.__doc__.split())
    assert reduced is not kind, "it was imported"
    assert not hasattr(reduced, "meta_gradient")
    assert not hasattr(reduced, "build")


def test_the_names_are_those_of_the_registries():
    known = {"dataset": DATASETS, "algorithm": ALGORITHMS, "model": MODELS}
    assert {section: list(variants(section)) for section in known} == {key: list(names) for key, names in known.items()}


def test_real_settings_have_the_same_values_and_all_checks():
    reduced = variants("algorithm")["maml"]
    assert real(reduced(inner_steps=3)) == ALGORITHMS["maml"](inner_steps=3)
    assert is_section(reduced())
    with pytest.raises(FanfoldError, match="inner_steps"):
        real(reduced(inner_steps=0))


def test_a_source_that_needs_more_is_imported(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text(
        "import numpy as np\nfrom dataclasses import dataclass\n@dataclass\nclass Needy:\n    x: float = float(np.pi)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = settings("needy:Needy")
    assert found is sys.modules["needy"].Needy
    assert real(found()).x == pytest.approx(3.14159, abs=1e-5)


SCRIPT = """
import sys
from fanfold.workflows.cli.main import main
for words in {asked}:
    sys.argv = ["fanfold", *words]
    try:
        main()
    except SystemExit as ended:
        print(words, ended.code, file=sys.stderr)
        assert ended.code == (0 if words[-1] == "--help" else 2), words
    assert not {{"torch", "distributed"}} & set(sys.modules), words
"""


def test_help_and_wrong_arguments_need_no_pytorch(tmp_path, environment):
    asked = [
        ["train", "--help"],
        ["train", "--meta.batch", "x"],
        ["train", "--meta.batch", "0"],
        ["train", "--algorithm.name", "mamml"],
        ["train", "--model.name", "resnet"],
        ["train", "--foo"],
        ["train", "--config", "nowhere.yaml"],
    ]
    script = SCRIPT.format(asked=asked)
    ran = outcome([sys.executable, "-c", script], tmp_path, environment)
    assert ran.returncode == 0, ran.stderr
    assert "--meta.batch" in ran.stdout
    assert "Tasks a meta-batch" in ran.stdout
