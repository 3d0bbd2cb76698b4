"""One configuration tree for all commands: typed dataclasses, read from a YAML file and flags by jsonargparse.

A section with variants (data set, algorithm, model) has a dataclass for each. Its `name` is read from file and flags
before the parser is built, so the parser knows only the flags of the chosen variants.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.pipeline.configuration import Configuration
from fanfold.pipeline.experiment import Experiment, decide
from fanfold.tasks.algorithms.registry import plugin_algorithm
from fanfold.tasks.models import PluginModel
from fanfold.workflows.cli.flags import SECTIONS, VARIANTS, in_flags
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.words import did_you_mean

PLUGINS: dict[str, Callable[[str], type]] = {"algorithm": plugin_algorithm, "model": lambda _: PluginModel}
DEFAULTS = {"dataset": "auto", "algorithm": "maml", "model": "conv4"}


def build_parser(workflow: str, description: str, argv: Sequence[str], sections: Sequence[str]) -> ArgumentParser:
    """A parser for a command's sections of the configuration, with the variants that file and flags name.

    Raises:
        FanfoldError: A variant's name is unknown, or a configuration file can't be read.
    """
    verb = workflow.removeprefix("workflows.")
    prog = command(verb) if verb != workflow else f"python -m {workflow}"
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file; flags after it override what it says")
    for section in sections:
        if section in VARIANTS:
            name = chosen_name(argv, section) or DEFAULTS[section]
            parser.add_class_arguments(variant(section, name), section)
            parser.set_defaults({f"{section}.name": name})
        else:
            parser.add_class_arguments(SECTIONS[section], section)
    return parser


def variant(section: str, name: str) -> type:
    """The dataclass of a variant.

    Raises:
        FanfoldError: There is no variant of that name.
    """
    known = VARIANTS[section]
    if name in known:
        return known[name]
    if section in PLUGINS and ":" in name:
        return PLUGINS[section](name)
    plugin = ", or your own as package.module:Class" if section in PLUGINS else ""
    raise FanfoldError(f"No {section} '{name}': there are {', '.join(known)}{plugin}.{did_you_mean(name, known)}")


def chosen_name(argv: Sequence[str], section: str) -> str | None:
    """The variant that file and flags name; the last one counts, as in the parser."""
    name = None
    for flag, value in _flags(argv):
        if flag == f"--{section}.name":
            name = value
        elif flag in ("--config", f"--{section}"):
            content = read_yaml("configuration", value)
            if not isinstance(content, dict):
                raise FanfoldError(f"The configuration {value} must be a YAML mapping, such as `seed: 0`.")
            part = content.get(section) if flag == "--config" else content
            if isinstance(part, dict) and "name" in part:
                name = str(part["name"])
    return name


def flag_value(argv: Sequence[str], flag: str) -> str | None:
    """The last value that the arguments give a flag, before they are parsed."""
    return dict(_flags(argv)).get(flag)


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """Parse the arguments; every section becomes its dataclass.

    Raises:
        FanfoldError: An unknown flag, a value of the wrong type, or one out of its range.
    """
    try:
        options: Namespace = parser.instantiate(parser.parse_args(list(argv)))
        return options
    except ArgumentError as error:
        if isinstance(error.__cause__, FanfoldError):
            raise error.__cause__ from error
        raise FanfoldError(_one_line(str(error), parser)) from error


def decided(options: Namespace) -> Experiment:
    """The experiment that parsed arguments ask for; prints why `auto` fell back to another data set, if it did.

    Raises:
        FanfoldError: See `decide`.
    """
    asked = {field.name: getattr(options, field.name) for field in fields(Configuration)}
    experiment = decide(Configuration(**asked))
    if experiment.note:
        print(in_flags(experiment.note), flush=True)
    return experiment


def _flags(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flags with their values, in order; both `--flag value` and `--flag=value`."""
    for place, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            yield flag, value if equals else (argv[place + 1] if place + 1 < len(argv) else "")


def read_yaml(what: str, path: Path | str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The content of a YAML file; an error names it by its kind, such as "space".

    Raises:
        FanfoldError: The file can't be read.
    """
    try:
        return yaml.load(Path(path).read_text(), loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise FanfoldError(f"The {what} {path} can't be read ({reason}).") from error
    except yaml.YAMLError as error:
        raise FanfoldError(f"The {what} {path} is not valid YAML: {one_line(error)}.") from error


def _one_line(message: str, parser: ArgumentParser) -> str:
    """The parser's error in one line that says how to mend it."""
    message = " ".join(message.split())
    if unknown := re.match(r"unrecognized arguments: (\S+)", message):
        flag = unknown[1].partition("=")[0]
        known = [option for action in parser._actions for option in action.option_strings]
        what = "flag" if flag.startswith("-") else "word"
        return f"Unknown {what} {flag}: see --help.{did_you_mean(flag, known)}"
    if wrong := re.match(r'Parser key "([^"]+)": Expected an? (.+?)\. Got value: (.*)', message):
        kind = re.sub(r"<class '(\w+)'>|typing\.", r"\1", wrong[2])
        return f"--{wrong[1]} must be of type {kind}, not '{wrong[3]}'."
    return message
