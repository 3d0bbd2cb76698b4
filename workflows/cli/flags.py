"""The configuration's fields, and messages about them as the command line shows them: with flags."""

import re
import shlex
from dataclasses import fields
from functools import cache

from fanfold.data.datasets import DATASETS
from fanfold.pipeline.cluster.cluster import ClusterConfig
from fanfold.pipeline.configuration import TrainTask
from fanfold.pipeline.evaluation import EvaluationConfig
from fanfold.pipeline.recipe import Meta
from fanfold.tasks.algorithms.registry import ALGORITHMS
from fanfold.tasks.episodes import EpisodeShape
from fanfold.tasks.models import MODELS, PluginModel
from fanfold.workflows.cli.program import command

VARIANTS: dict[str, dict[str, type]] = {"dataset": DATASETS, "algorithm": ALGORITHMS, "model": MODELS}
"""The dataclasses of a section by the variants' names."""

SECTIONS: dict[str, type] = {
    "task": EpisodeShape,
    "train": TrainTask,
    "meta": Meta,
    "evaluation": EvaluationConfig,
    "cluster": ClusterConfig,
}
"""The dataclasses of the sections without variants."""

OPTIONS = frozenset({"seed", "run", "resume", "overwrite"})  # of commands, in no section of the configuration
COMMANDS = frozenset({"prepare"})  # that messages name


def in_flags(message: str) -> str:
    """Word the configuration fields of a message as flags.

    "`meta.batch`" becomes "--meta.batch", "`cluster.kind=cpu`" becomes "--cluster.kind cpu", and "`prepare overwrite`"
    becomes "`fanfold prepare --overwrite`", or as the program was started. Other text in backquotes stays as it is.
    """
    return re.sub("`([^`]+)`", lambda quoted: _worded(quoted[1]) or quoted[0], message)


def _worded(quoted: str) -> str | None:
    """Fields as flags, or a command with its flags; None for any other text."""
    try:
        first, *others = words = shlex.split(quoted)
    except ValueError:  # no closing quotation mark, or no word
        return None
    settings = others if first in COMMANDS else words
    flags: list[str] = []
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not is_field(field):
            return None
        flags += [f"--{field}", value] if equals else [f"--{field}"]
    if first in COMMANDS:
        return f"`{command(first, *flags)}`" if flags else None
    return shlex.join(flags)


def is_field(path: str) -> bool:
    """Whether a dotted path is that of a configuration field."""
    section, _, name = path.partition(".")
    return name in _fields(section) if name else section in OPTIONS


@cache
def _fields(section: str) -> frozenset[str]:
    """The fields of a section, those of all its variants."""
    return frozenset(field.name for kind in _kinds(section) for field in fields(kind))


def _kinds(section: str) -> tuple[type, ...]:
    match section:
        case "search":
            from fanfold.pipeline.search.study import SearchConfig  # only here: Optuna takes its time to import

            return (SearchConfig,)
        case "record":
            from fanfold.workflows.cli.listeners import Recording  # only here: so does TensorBoard

            return (Recording,)
        case "model":
            return (*VARIANTS[section].values(), PluginModel)
        case _ if section in VARIANTS:
            return tuple(VARIANTS[section].values())
        case _:
            return (SECTIONS[section],) if section in SECTIONS else ()
