"""How a Python call shows its progress: on a terminal, or in a notebook."""

import io

from rich.console import Console

from fanfold.pipeline.recording.notebook import NotebookTerminal, in_notebook
from fanfold.pipeline.recording.progress import Terminal
from fanfold.workflows.face.words import in_arguments


def terminal(progress: bool) -> Terminal:
    """Where a call shows how it goes; nowhere without `progress`."""
    if not progress:
        return Terminal(in_arguments, Console(file=io.StringIO(), quiet=True))
    return NotebookTerminal(in_arguments) if in_notebook() else Terminal(in_arguments)
