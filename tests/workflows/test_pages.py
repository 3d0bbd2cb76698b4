"""Every page of the documentation does what it says; see `tests.pages`."""

import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
import yaml

from fanfold.data import extras
from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli import main
from fanfold.workflows.cli.configuration import parse
from fanfold.workflows.cli.verbs import VERBS, verb_parser
from tests.pages import GENERATED, LINK, PAGES, ROOT, Block, blocks, commands, first_missing

LANGUAGES = {"console", "python", "text", "yaml", "toml", "dockerfile", "mermaid"}
SHELL = {"ls", "cat", "cd", "mkdir", "python", "head", "find"}  # run as they stand
OTHERS = {"pip", "uv", "make", "git", "dask", "docker", "kubectl", "sbatch", "ssh", "helm"} | {
    *("tensorboard", "mlflow", "optuna-dashboard", "export", "jupyter", "netron", "wandb", "scp", "rsync"),
}
WITH_CLUSTER = {"train", "evaluate", "report", "search", "table"}  # verbs that take flags of a cluster


class Page:
    """A page that is carried out in a folder."""

    def __init__(self, joined: list[str]) -> None:
        self.joined = joined
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.printed = ""  # by the last block

    def carry_out(self, block: Block) -> None:
        """Do what a block says, and compare what it shows."""
        if (name := block.marked("file")) is not None:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(block.code)
        elif block.language == "console":
            for command, shown in commands(block.code):
                self._command(block, block.smaller(command), shown)
        elif block.language == "python":
            self._python(block)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.code))
        elif block.language == "text" and block.marked("output") is not None:
            self._compare(block, block.code.splitlines())

    def _compare(self, block: Block, shown: list[str]) -> None:
        missing = first_missing(shown, self.printed, block.marked("exact") is not None)
        assert missing is None, f"line {block.line}: {missing!r} is shown, and this was printed:\n{self.printed}"

    def _python(self, block: Block) -> None:
        code = compile(block.smaller(block.code), f"line {block.line}", "exec")
        if block.marked("parsed") is None:
            status = self._ran(lambda: exec(code, self.names))
            assert (status != 0) == (block.marked("fails") is not None), self.printed

    def _command(self, block: Block, command: str, shown: list[str]) -> None:
        words = shlex.split(command, comments=True)
        while "=" in words[0]:
            words = words[1:]
        if words[:2] == ["python", "-m"] and words[2].startswith("workflows."):
            words = ["fanfold", words[2].removeprefix("workflows."), *words[3:]]
        if words[0] == "fanfold":
            self._fanfold(block, words[1:])
        elif words[0] in SHELL:
            if words[0] == "python" and words[1].endswith(".py"):
                status = self._ran(lambda: runpy.run_path(words[1], run_name="__main__"))
                assert status == 0, self.printed
            elif words[0] == "cd":
                os.chdir(words[1])
            else:
                self.printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
        else:
            check_other(words)
            return
        if block.marked("parsed") is None:
            self._compare(block, shown)

    def _fanfold(self, block: Block, words: list[str]) -> None:
        if block.marked("parsed") is not None:
            check_flags(*words)
            return
        words = [*words, *shlex.split(block.marked("append") or "")]
        own = block.marked("cluster") is not None or "--cluster.kind" in words or "--help" in words
        if words[0] in WITH_CLUSTER and not own:
            words += self.joined
        status = self._ran(lambda: main.run_verb(words))
        expected = block.marked("fails") is not None
        assert (status != 0) == expected, f"line {block.line}: {shlex.join(words)}\n{self.printed}"

    def _ran(self, function) -> int:
        """The exit status of a function, whose prints are kept."""
        stream, status = StringIO(), 0
        with redirect_stdout(stream), redirect_stderr(stream):
            try:
                function()
            except SystemExit as ended:
                status = int(ended.code or 0)
            except Exception:
                traceback.print_exc()
                status = 1
        self.printed = stream.getvalue()
        return status


def check_flags(verb: str, *argv: str) -> None:
    """Parse a command of Fanfold's that is not run."""
    try:
        parse(verb_parser(verb, argv), argv)
    except FanfoldError as error:
        if "holds no run" not in str(error):  # of a page's run that is not there
            raise
        flags = {word for word in argv if word.startswith("--")}
        assert flags <= set(re.findall(r"--[\w.]+", verb_parser(verb).format_help())), argv


def check_other(words: list[str]) -> None:
    """Check a command of another program, which a test has no business to run."""
    program = Path(words[0]).name
    assert program in OTHERS or program in ("python", "pip"), f"{program}: run it, or say in OTHERS why not"
    for extra in re.findall(r"(?:CLONE|\.)\[([a-z,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= {*extras.MODULES, "all", "benchmark", "docs", "test", "lint"}, words
    if program == "make":
        (target,) = [word for word in words[1:] if "=" not in word]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    if program == "dask":
        check_dask(words[1:])


def check_dask(words: list[str]) -> None:
    """Parse a command of Dask's: its flags must be there."""
    name, *flags = words
    if name in ("scheduler", "worker"):
        command = import_module(f"distributed.cli.dask_{name}").main
        command.make_context(f"dask {name}", flags)


@pytest.mark.parametrize("page", PAGES, ids=[path.stem for path in PAGES])
def test_a_page_does_what_it_says(page, pictures, joined, cluster, tmp_path, monkeypatch):
    found = list(blocks(page))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    interrupted = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["fanfold"])
    carried = Page(joined)
    carried.names["client"] = cluster.client  # for `smaller` marks
    for block in found:
        assert block.language in LANGUAGES, f"{page.name}, line {block.line}: a block of {block.language!r}"
        if block.marked("given") == "pictures":
            Path("pictures").symlink_to(pictures)
        carried.carry_out(block)
    signal.signal(signal.SIGINT, interrupted)


@pytest.mark.parametrize("page", PAGES, ids=[path.stem for path in PAGES])
def test_a_pages_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists() or Path(target).name in GENERATED, f"{page.name}: {target}"


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_a_table_of_verbs_has_them_all_in_the_commands_order(page):
    table = re.search(r"^\| verb \|.*\n\|.*\n((?:\|.*\n)+)", (ROOT / page).read_text(), re.MULTILINE)
    assert table is not None
    listed = [cell for row in table[1].splitlines() for cell in re.findall(r"`(?:fanfold )?(\w+)`", row.split("|")[1])]
    assert listed == list(VERBS)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_a_page_that_lies_is_caught():
    shown = ["run: runs/maml-20261124 (2 workers)", "…", "test accuracy 95.52 ± 0.61 %"]
    printed = "run: runs/maml-20271125 (4 workers)\nother\ntest accuracy 1 ± 2 %\n"
    assert first_missing(shown, printed, exact=False) is None
    assert first_missing(shown, printed, exact=True) == shown[0]
    assert first_missing(shown[::-1], printed, exact=False) == shown[0]
    assert first_missing(["another"], printed, exact=False) == "another"
    with pytest.raises(AssertionError, match="frobnicate"):
        check_other(["frobnicate", "--all"])
