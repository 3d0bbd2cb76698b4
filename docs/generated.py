"""Pages written before the site is built: the command line and the API, as `fanfold` has them, and the notebook."""

import json
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import fanfold

COMMAND_LINE = """\
# The command line

`fanfold VERB` does one thing: these are the verbs, with the help of each. In a clone, `python -m workflows.VERB` is the
same. Flags override the files that `--config` names, and later ones earlier ones; `--print_config` shows what it all
comes to.

Exit status: 0; 2 for a request that can't be met, with one line that says why and how to mend it; 1 for a run that
failed.
"""


API = """\
# The API

What `import fanfold` offers. A name is imported when it is first used: PyTorch takes seconds.
"""


def command_line() -> str:
    """The page of the command line: the help of every verb, and the settings of every variant."""
    from fanfold.workflows.cli.program import started_by
    from fanfold.workflows.cli.reference import reference

    started_by("fanfold")
    return f"{COMMAND_LINE}\n{reference()}"


def api() -> str:
    """The page of the API: every public name of the package."""
    parts = [API]
    for name in fanfold.__all__:
        if not name.startswith("_"):
            is_class = isinstance(getattr(fanfold, name), type)
            directive = f".. autoclass:: {name}\n   :members:\n" if is_class else f".. autofunction:: {name}\n"
            parts.append(f"## {name}\n\n```{{eval-rst}}\n.. currentmodule:: fanfold\n\n{directive}```\n")
    return "\n".join(parts)


def notebook(file: Path) -> str:
    """The page of a notebook: its cells, with what they printed and drew."""
    parts = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += map(_output, cell.get("outputs", []))
    parts.append(f"{{download}}`This page as a notebook <{file.name}>`")
    return "\n\n".join(filter(None, parts)) + "\n"


def _output(output: dict[str, Any]) -> str:
    """A cell's picture or text, as Markdown; empty for HTML, such as a progress bar."""
    data = output.get("data", {})
    if "text/html" in data:
        return ""
    if "image/png" in data:
        return f"![What the cell draws](data:image/png;base64,{''.join(data['image/png']).replace(chr(10), '')})"
    text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text else ""


def write_pages(app: Sphinx) -> None:
    """Write the pages beside the others, where they have changed."""
    found = {"command-line.md": command_line(), "api.md": api()}
    for file in Path(app.srcdir).glob("*.ipynb"):
        found[f"{file.stem}-notebook.md"] = notebook(file)
    for name, text in found.items():
        page = Path(app.srcdir, name)
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
