from dataclasses import fields

import pytest

from fanfold.data.datasets import DATASETS
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.configuration import SECTIONS
from fanfold.workflows.cli.flags import SECTIONS as OF_SECTIONS
from fanfold.workflows.cli.flags import in_flags, is_field
from fanfold.workflows.cli.search_options import read_options
from fanfold.workflows.cli.settings import settings
from tests.environment import ROOT


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`meta.batch` must be at least 1, not 0.", "--meta.batch must be at least 1, not 0."),
        ("go on with `resume`, or name another with `run`", "go on with --resume, or name another with --run"),
        ("use `cluster.kind=cpu`.", "use --cluster.kind cpu."),
        ("made with `'dataset.source=my pictures'`", "made with --dataset.source 'my pictures'"),
        ("`search.trials` and `record.mlflow`", "--search.trials and --record.mlflow"),
        ("`model.arguments`, `algorithm.every_turn=false`", "--model.arguments, --algorithm.every_turn false"),
        (
            "make it with `prepare dataset.name=folder 'dataset.store=my stores/a.zarr' overwrite=true`",
            "make it with `fanfold prepare --dataset.name folder --dataset.store 'my stores/a.zarr' --overwrite true`",
        ),
        ("x.yaml: meta.lr: `meta.lr` must be above 0", "x.yaml: meta.lr: --meta.lr must be above 0"),
    ],
)
def test_fields_in_backquotes_are_shown_as_flags(message, shown):
    assert in_flags(message) == shown


@pytest.mark.parametrize(
    "message",
    [
        "such as `seed: 0`, or `algorithm.inner_lr: {low: 0.01, high: 1.0, log: true}`",
        "read from `search.yaml`, `model.pt` or `runs/run`",
        "start it with `dask worker --nthreads 1 tcp://there:1` or `dask cuda worker tcp://there:1`",
        "`python -m workflows.prepare --overwrite` makes it",
        "`prepare` takes a folder; `prepare nothing=1` doesn't",
        "steps of `step`, `choices`, `low`; an unclosed `don't`",
        "the field meta.batch without backquotes, and a lone ` mark",
        "``",
    ],
)
def test_other_text_stays_as_it_is(message):
    assert in_flags(message) == message


def test_every_field_of_the_configuration_has_its_flag():
    options = read_options([]).as_dict()
    known = {f"{section}.{name}" for section in SECTIONS for name in vars(options[section])}
    assert {"meta.batch", "task.ways", "algorithm.inner_lr", "model.width", "evaluation.every"} <= known
    assert all(is_field(path) for path in known)
    assert all(is_field(f"dataset.{name}") for kind in DATASETS.values() for name in kind.__dataclass_fields__)
    assert all(is_field(f"cluster.{name}") for name in ClusterConfig.__dataclass_fields__)
    assert not any(is_field(path) for path in ("meta", "meta.", "meta.batches", "space.meta.lr", "", "."))


def test_every_field_of_a_section_stands_on_the_page_of_the_configuration():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section in (*(name for name in SECTIONS if name not in ("algorithm", "model")), "record"):
        kinds = DATASETS.values() if section == "dataset" else [settings(OF_SECTIONS[section])]
        absent = {field.name for kind in kinds for field in fields(kind) if f"--{section}.{field.name}" not in page}
        assert absent == set()
