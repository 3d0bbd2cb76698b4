"""The configuration's fields, and messages about them as the command line shows them: with flags."""

import re
import shlex
from dataclasses import fields
from functools import cache

from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.settings import settings

VARIANTS = {
    "dataset": "fanfold.data.datasets:DATASETS",
    "algorithm": "fanfold.tasks.algorithms.registry:ALGORITHMS",
    "model": "fanfold.tasks.models:MODELS",
}
"""Where the dataclasses of a section with variants are, by the variants' names."""

SECTIONS = {
    "task": "fanfold.pipeline.configuration:TaskConfig",
    "train": "fanfold.pipeline.configuration:TrainTask",
    "meta": "fanfold.pipeline.recipe:Meta",
    "evaluation": "fanfold.pipeline.configuration:EvaluationConfig",
    "cluster": "fanfold.pipeline.cluster.config:ClusterConfig",
    "search": "fanfold.pipeline.search.config:SearchConfig",
    "record": "fanfold.workflows.cli.listeners:Recording",
}
"""Where the dataclass of any other section is."""

CONFIGURATION = ("dataset", "task", "train", "algorithm", "model", "meta", "evaluation", "cluster")
"""The sections of a run's configuration."""

PLUGIN_MODEL = "fanfold.tasks.models:PluginModel"
BACKBONE = "fanfold.tasks.backbones:Backbone"
PREFIXES = "fanfold.tasks.backbones:PREFIXES"

OPTIONS = frozenset(  # of commands, in no section
    {"seed", "run", "tasks", "resume", "overwrite", "trust", "ensemble", "support", "query"}
)
COMMANDS = frozenset({"prepare", "train", "evaluate", "report"})  # that messages name


def variants(section: str) -> dict[str, type]:
    """The dataclasses of a section by the variants' names, reduced to their fields: see `settings`."""
    found: dict[str, type] = settings(VARIANTS[section])
    return found


def in_flags(message: str) -> str:
    """Word the configuration fields of a message as flags.

    "`meta.batch`" becomes "--meta.batch", "`cluster.kind=cpu`" becomes "--cluster.kind cpu", and "`prepare overwrite`"
    becomes "`fanfold prepare --overwrite`", or as the program was started. Other text in backquotes stays as it is.
    """
    return re.sub("`([^`]+)`", lambda quoted: _worded(quoted[1]) or quoted[0], message)


def say(line: str) -> None:
    """Print a line at once, with fields worded as flags."""
    print(in_flags(line), flush=True)


def _worded(quoted: str) -> str | None:
    """Fields as flags, or a command with its flags; None for any other text."""
    if (found := named_fields(quoted)) is None:
        return None
    verb, values = found
    flags = [word for field, value in values for word in (f"--{field}", value) if word is not None]
    return f"`{command(verb, *flags)}`" if verb else shlex.join(flags)


def named_fields(quoted: str) -> tuple[str, list[tuple[str, str | None]]] | None:
    """The verb of a command that text in backquotes begins with, or "", and fields with values; None for other text."""
    try:
        words = shlex.split(quoted)
    except ValueError:  # no closing quotation mark
        return None
    verb = words.pop(0) if words and words[0] in COMMANDS else ""
    parts = [word.partition("=") for word in words]
    if not parts or not all(is_field(field) for field, _, _ in parts):
        return None
    return verb, [(field, value if equals else None) for field, equals, value in parts]


def is_field(path: str) -> bool:
    """Whether a dotted path is that of a configuration field."""
    section, _, name = path.partition(".")
    return name in _fields(section) if name else section in OPTIONS


@cache
def _fields(section: str) -> frozenset[str]:
    """The fields of a section, those of all its variants."""
    return frozenset(field.name for kind in _kinds(section) for field in fields(kind))


def _kinds(section: str) -> tuple[type, ...]:
    plugins = (settings(PLUGIN_MODEL), settings(BACKBONE)) if section == "model" else ()
    if section in VARIANTS:
        return (*variants(section).values(), *plugins)
    return (settings(SECTIONS[section]),) if section in SECTIONS else ()
