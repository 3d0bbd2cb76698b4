"""The command `fanfold VERB …`: each verb is a module of `workflows`, imported when it is asked for."""

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from fanfold.data.advice import did_you_mean
from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.entry import run
from fanfold.workflows.cli.program import command, started_by
from fanfold.workflows.cli.verbs import VERBS, module_of, summary

USAGE = """\
usage: fanfold VERB [OPTIONS]

Meta-learning over a Dask cluster: meta-batches fanned out over workers, and folded into one meta-gradient.

verbs:
{verbs}

  fanfold VERB --help     what a verb takes
  fanfold --version       the version
"""


def main() -> NoReturn:
    """Run the verb that the command line names, and exit; see `fanfold.workflows.cli.entry.run`."""
    started_by(*(["python", "-m", "fanfold"] if sys.argv[0].endswith("__main__.py") else ["fanfold"]))
    run_verb(sys.argv[1:])


def run_verb(words: Sequence[str]) -> NoReturn:
    """Run a verb with its arguments, and exit."""
    _find_own_modules()
    run(partial(_dispatch, words))


def _dispatch(words: Sequence[str], _: Sequence[str]) -> None:
    verb, *argv = words or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(usage(), end="")
    elif verb in ("--version", "-V"):
        print(f"fanfold {version('fanfold')}")
    elif verb in VERBS:
        import_module(module_of(verb)).main(argv)
    else:
        known = ", ".join(VERBS)
        raise FanfoldError(f"No command '{verb}': there are {known}.{did_you_mean(verb, VERBS)}")


def usage() -> str:
    """The page of `fanfold --help`: a line for each verb."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {summary(verb)}" for verb in VERBS)
    return USAGE.format(verbs=verbs).replace("fanfold VERB", command("VERB"))


def _find_own_modules() -> None:
    """Find the user's models and algorithms in the current folder, after all that is installed.

    Workers started from here look in the same places.
    """
    here, ours = Path.cwd(), Path(__file__).parents[3]  # the folder of the package
    if here != ours and ((here / "fanfold.py").exists() or (here / "fanfold").exists()):
        # An editable install is looked for after all of the path; workers must not take the user's for it.
        sys.path.append(str(ours))
    if str(here) not in sys.path:
        sys.path.append(str(here))
