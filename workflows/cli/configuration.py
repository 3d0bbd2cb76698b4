"""One configuration tree for all commands: typed dataclasses, read from a YAML file and flags by jsonargparse.

A section with variants (data set, algorithm, model) has a dataclass for each. Its `name` is read from file and flags
before the parser is built, so the parser knows only the flags of the chosen variants.

Classes are imported after the arguments were parsed: help and most errors need no PyTorch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from fanfold.data.advice import one_line
from fanfold.data.errors import FanfoldError
from fanfold.workflows.cli.flags import PLUGIN_MODEL, SECTIONS, VARIANTS, in_flags, variants
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.settings import is_section, real, settings
from fanfold.workflows.cli.words import did_you_mean

if TYPE_CHECKING:
    from fanfold.pipeline.experiment import Experiment

DEFAULTS = {"dataset": "auto", "algorithm": "maml", "model": "conv4"}


def build_parser(
    workflow: str, description: str | None, argv: Sequence[str], sections: Sequence[str]
) -> ArgumentParser:
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
            parser.add_class_arguments(settings(SECTIONS[section]), section)
    return parser


def variant(section: str, name: str) -> type:
    """The dataclass of a variant; one of Fanfold's own reduced to its fields.

    Raises:
        FanfoldError: There is no variant of that name.
    """
    known = variants(section)
    if name in known:
        return known[name]
    if section == "model" and ":" in name:
        found: type = settings(PLUGIN_MODEL)
        return found
    if section == "algorithm" and ":" in name:
        from fanfold.tasks.algorithms.registry import plugin_algorithm  # imports PyTorch, as the algorithm does

        return plugin_algorithm(name)
    plugin = "" if section == "dataset" else ", or your own as package.module:Class"
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


def of_run(path: str, otherwise: str) -> list[str]:
    """The configuration of a run directory as arguments.

    Raises:
        FanfoldError: The directory holds no run; the message ends with what to do otherwise.
    """
    config = Path(path) / "config.yaml"
    if not config.exists():
        raise FanfoldError(f"{path} holds no run{otherwise}.")
    return ["--config", str(config)]


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
    except ArgumentError as error:
        if isinstance(error.__cause__, FanfoldError):
            raise error.__cause__ from error
        raise FanfoldError(_one_line(str(error), parser)) from error
    # Those without variants are imported quickly, and so come first.
    for name in sorted(vars(options), key=lambda name: name in VARIANTS):
        if is_section(getattr(options, name)):
            setattr(options, name, real(getattr(options, name)))
    return options


def decided(options: Namespace, *, trains: bool = True) -> "Experiment":
    """The experiment that parsed arguments ask for; prints why `auto` fell back to another data set, if it did.

    Raises:
        FanfoldError: See `decide`.
    """
    from fanfold.pipeline.configuration import Configuration
    from fanfold.pipeline.experiment import decide  # only here: PyTorch

    asked = {field.name: getattr(options, field.name) for field in fields(Configuration)}
    experiment = decide(Configuration(**asked), trains=trains)
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
