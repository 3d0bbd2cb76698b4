"""The command `fanfold`: its verbs, and those that tell of configurations, machines and shells."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version

import jsonschema
import pytest
from click.testing import CliRunner

from fanfold.pipeline import yaml_text
from fanfold.workflows import completion, doctor
from fanfold.workflows.actions.doctor import Finding
from fanfold.workflows.cli.configs import SHIPPED
from fanfold.workflows.cli.dask_command import fanfold
from fanfold.workflows.cli.main import run_verb
from fanfold.workflows.cli.program import command, started_by
from fanfold.workflows.cli.reference import reference
from fanfold.workflows.cli.verbs import VERBS, summary
from fanfold.workflows.schema import schema_of
from tests.environment import outcome


@pytest.fixture
def say(capsys, monkeypatch):
    """Runs `fanfold` in this process. Returns its exit status, standard output and error."""
    monkeypatch.setattr("sys.path", [])

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            run_verb(words)
        return ended.value.code, *capsys.readouterr()

    yield run
    started_by("fanfold")


def test_the_command_alone_is_a_page_of_verbs(say):
    status, page, _ = say()
    assert (status, page) == (0, say("--help")[1])
    assert all(f"  {verb} " in page and summary(verb) in page for verb in VERBS)
    assert all(len(summary(verb)) > 20 for verb in VERBS)


def test_the_version(say):
    assert say("--version")[:2] == (0, f"fanfold {version('fanfold')}\n")


def test_an_unknown_verb_is_said_in_a_line(say):
    status, _, said = say("trian")
    assert (status, said.count("\n")) == (2, 1)
    assert said.endswith("Did you mean train?\n")


def test_advice_names_the_command_as_it_was_started():
    started_by("python", "-m", package="fanfold.workflows.")
    assert command("train", "--run", "my run") == "python -m fanfold.workflows.train --run 'my run'"
    started_by("dask", "fanfold")
    assert command("train") == "dask fanfold train"
    started_by("fanfold")
    assert command("train") == "fanfold train"


def test_dasks_command_has_the_same_verbs():
    ran = CliRunner().invoke(fanfold, ["train", "--meta.lr", "x"])
    started_by("fanfold")
    assert ran.exit_code == 2
    assert "--meta.lr must be a number, not 'x'" in ran.output


@pytest.mark.parametrize(
    "words",
    [
        "train --config pictures --dataset.source nowhere --run new",
        "prepare --dataset.name cifar-fs --dataset.source nowhere",
        "classify --run fanfold:omniglot --support nowhere --query nowhere",
        "export --run fanfold:omniglot --meta.batch 3",
    ],
)
def test_what_is_wrong_is_said_before_anything_is_imported_that_takes_seconds(tmp_path, environment, words):
    source = (
        "import sys\nfrom fanfold.workflows.cli.main import run_verb\n"
        "try: run_verb(sys.argv[1:])\nfinally: print({'torch', 'zarr', 'distributed'} & {*sys.modules})\n"
    )
    ran = outcome([sys.executable, "-c", source, *words.split()], tmp_path, environment)
    assert (ran.returncode, ran.stdout) == (2, "set()\n")
    assert ran.stderr.count("\n") == 1
    assert "nowhere" in ran.stderr or "--meta.batch" in ran.stderr
    assert not list(tmp_path.iterdir())


def test_configurations_are_listed(say):
    status, page, _ = say("configs")
    assert status == 0
    assert len(page.splitlines()) == len(list(SHIPPED.rglob("*.yaml")))
    assert "omniglot/protonet-5way1shot  " in page


def test_the_doctor_looks_at_everything(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stores" / "broken.zarr").mkdir(parents=True)
    monkeypatch.setenv("OMNIGLOT_SOURCE", str(tmp_path / "nowhere"))
    doctor.main(["--json"])
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    looked = {"versions", "requirements", "extras", "GPU", "cores", "memory", "disk", "Numba's cache", "port 8787"}
    assert looked <= set(found)
    assert not any("can't be looked at" in finding["text"] for finding in found.values())
    assert version("torch") in found["versions"]["text"]
    assert not found["store"]["ok"]
    assert not found["Omniglot"]["ok"]
    assert found["current folder"]["text"] == str(tmp_path)


def test_what_blocks_every_run_is_a_failure(say, monkeypatch):
    found = [Finding("disk", True, "fine"), Finding("requirements", False, "met by none", blocks=True)]
    monkeypatch.setattr("fanfold.workflows.actions.doctor.findings", lambda: iter(found))
    assert say("doctor") == (
        1,
        "ok  disk: fine\n !  requirements: met by none\n",
        "error: In the way of a run: requirements.\n",
    )


def test_a_schema_takes_every_shipped_configuration_and_refuses_wrong_ones():
    schema = schema_of("train")
    jsonschema.Draft202012Validator.check_schema(schema)
    judge = jsonschema.Draft202012Validator(schema)
    for path in SHIPPED.rglob("*.yaml"):
        assert not list(judge.iter_errors(yaml_text.load(path.read_text()))), path
    for right in (
        "algorithm: anil\nmeta:",
        "algorithm: {name: my.module:Net, depth: 3}",
        "model: my:Net\nmeta: {lr: 1}",
    ):
        judge.validate(yaml_text.load(right))
    for wrong in (
        *("meta: {batch: many}", "meta: {batches: 3}", "metas: {}", "meta: 5", "algorithm: mamml", "seed: x"),
        *("algorithm: {name: maml, every_turn: true}", "algorithm: {inner_steps: 1.5}", "cluster: {kind: null}"),
        *("meta: {optimizer: adma}", "model: {name: conv4, reduce: mean}", "dataset: my.module:Data"),
    ):
        assert not judge.is_valid(yaml_text.load(wrong)), wrong
    assert "Meta rate." in schema["properties"]["meta"]["properties"]["lr"]["description"]


COMPLETE = """
source {script}
for words in "tr" "train --meta.b" "train --algorithm.name mat" "train --meta.optimizer s"; do
  COMP_WORDS=(fanfold $words); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
  _shtab_fanfold 2>/dev/null
  echo "${{COMPREPLY[*]}}"
done
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_an_unknown_choice_is_said_in_a_line(say):
    assert say("schema", "trin")[2] == (
        "error: VERB must be prepare, train, evaluate, search or picture, not 'trin'. Did you mean train?\n"
    )
    assert say("completion", "fish")[::2] == (2, "error: SHELL must be bash, zsh or tcsh, not 'fish'.\n")
    assert say("completion")[::2] == (2, "error: SHELL is needed: bash, zsh or tcsh.\n")


def test_bash_completes_verbs_flags_and_choices(tmp_path):
    (tmp_path / "script").write_text(completion.script("bash"))
    code = COMPLETE.format(script=tmp_path / "script")
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["train", "--meta.batch", "matching", "sgd"]


def test_the_page_of_the_command_line_has_every_flag():
    page = reference()
    assert all(f"## `fanfold {verb}`" in page for verb in VERBS)
    for flag in ("--meta.batch BATCH", "`--algorithm.inner_lr`", "`--model.reduce`", "--search.trials", "--json"):
        assert flag in page
