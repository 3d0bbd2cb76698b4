"""The page of the command line: every verb's help, written before the site is built."""

import re
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from sphinx.application import Sphinx

INTRODUCTION = """\
# The command line

`fanfold VERB` does one thing: these are the verbs, with the help of each. In a clone, `python -m workflows.VERB` is the
same. Flags override the files that `--config` names, and later ones earlier ones; `--print_config` shows what it all
comes to.

Exit status: 0; 2 for a request that can't be met, with one line that says why and how to mend it; 1 for a run that
failed.
"""


def help_of(words: list[str]) -> str:
    """What a command prints for `--help`."""
    from fanfold.workflows.cli.main import _dispatch

    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        _dispatch(words, [])
    return re.sub(r"[ \t]+\n", "\n", printed.getvalue().strip())


def write_page(app: Sphinx) -> None:
    """Write `command-line.md` beside the other pages."""
    from fanfold.workflows.cli.main import VERBS
    from fanfold.workflows.cli.program import started_by

    started_by("fanfold")
    parts = [INTRODUCTION, f"```text\n{help_of(['--help'])}\n```\n"]
    for verb in VERBS:
        parts.append(f"## fanfold {verb}\n\n```text\n{help_of([verb, '--help'])}\n```\n")
    page = Path(app.srcdir, "command-line.md")
    text = "\n".join(parts)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True}
