"""One configuration tree for all commands: typed dataclasses, read from a YAML file and flags by jsonargparse.

A section with variants (data set, algorithm, model) has a dataclass for each. Its `name` is read from file and flags
before the parser is built, so the parser knows only the flags of the chosen variants.

Classes are imported after the arguments were parsed: help and most errors need no PyTorch.
"""

import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_origin

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from fanfold.data.advice import did_you_mean
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import in_words, shown
from fanfold.workflows.actions.shipped import why_no_run
from fanfold.workflows.cli.arguments import apart, as_section, checked, kind_of, pairs, section_of, undotted
from fanfold.workflows.cli.configs import read_config
from fanfold.workflows.cli.flags import (
    BACKBONE,
    CONFIGURATION,
    PLUGIN_MODEL,
    PREFIXES,
    SECTIONS,
    VARIANTS,
    say,
    variants,
)
from fanfold.workflows.cli.program import command
from fanfold.workflows.cli.settings import is_section, real, settings
from fanfold.workflows.cli.trust import OWN, check_leave, check_scheduler, listed

if TYPE_CHECKING:
    from fanfold.pipeline.configuration import Configuration
    from fanfold.pipeline.experiment import Experiment

CONFIG_HELP = (
    "a YAML file, or the name of a configuration that comes with Fanfold (see `fanfold configs`), such as "
    "omniglot/protonet-5way1shot; a file of that name comes first; flags after it override what it says"
)
DEFAULTS = {"dataset": "auto", "algorithm": "maml", "model": "conv4"}


_collecting: ContextVar[bool] = ContextVar("collecting", default=False)


class CollectedError(Exception):
    """Stops a command at its parser, which somebody only wants to look at."""

    def __init__(self, parser: ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(main: Callable[[Sequence[str]], None], argv: Sequence[str] = ()) -> ArgumentParser:
    """The parser of a command, which isn't carried out."""
    token = _collecting.set(True)
    try:
        main(argv)
    except CollectedError as found:
        return found.parser
    finally:
        _collecting.reset(token)
    raise AssertionError("a command parses its arguments first")


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
    parser.add_argument("--config", action="config", help=CONFIG_HELP)
    for section in sections:
        if section in VARIANTS:
            name = chosen_name(argv, section) or DEFAULTS[section]
            parser.add_class_arguments(variant(section, name), section)
            parser.set_defaults({f"{section}.name": name})
            (named,) = (action for action in parser._actions if action.dest == f"{section}.name")
            named.help = f"{_names(section)}. Each has flags of its own: --{section}.name NAME --help shows them."
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
    if section == "model" and (name.startswith(settings(PREFIXES)) or ":" in name):
        found: type = settings(BACKBONE if name.startswith(settings(PREFIXES)) else PLUGIN_MODEL)
        return found
    if section == "algorithm" and ":" in name:
        from fanfold.tasks.algorithms.registry import plugin_algorithm  # imports PyTorch, as the algorithm does

        return plugin_algorithm(name)
    hint = did_you_mean(name, known)
    if section == "model" and "/" in name and name.isprintable():
        library, _, network = name.partition("/")
        hint = did_you_mean(library, [prefix.rstrip("/") for prefix in settings(PREFIXES)]).replace("?", f"/{network}?")
    if section != "dataset" and name.isidentifier() and Path(f"{name}.py").is_file():
        hint = f" The class in {name}.py is {name}:CLASS."
    raise FanfoldError(f"No {section} {shown(name)}: there are {_names(section)}.{hint}")


def _names(section: str) -> str:
    """The names of a section's variants, in words."""
    libraries = [f"{prefix}NAME" for prefix in settings(PREFIXES)] if section == "model" else []
    own = "" if section == "dataset" else ", or your own as package.module:Class"
    return ", ".join([*variants(section), *libraries]) + own


def chosen_name(argv: Sequence[str], section: str, field: str = "name") -> str | None:
    """The variant that file and flags name, or another field of theirs; the last one counts, as in the parser.

    Raises:
        FanfoldError: A file can't be read, or the section is none.
    """
    name = None
    for flag, value in pairs(argv):
        if not value:  # which is refused where the arguments are checked
            continue
        if flag == f"--{section}.{field}":
            name = value
        elif flag == f"--{section}":
            name = section_of(section, value).get(field, name)
        elif flag == "--config":
            content = undotted(read_config(value))
            part = as_section(f"The configuration {value}: `{section}:`", section, content.get(section))
            name = part.get(field, name)
    return name if name is None or isinstance(name, str) else shown(name)


def check_run(path: str, otherwise: str) -> list[str]:
    """The configuration of a run directory as arguments, for a command that only reads it.

    Raises:
        FanfoldError: The directory holds no run; the message ends with what to do otherwise.
    """
    if not path:
        raise FanfoldError("--run needs a value: --run RUN.")
    config = Path(path) / "config.yaml"
    if not config.exists():
        raise FanfoldError(why_no_run(path, "`classify` and `export`", otherwise))
    weights = Path(path) / "weights.safetensors"  # the run's own, wherever it began
    return ["--config", str(config), *(["--model.weights", str(weights)] if weights.exists() else [])]


def of_run(path: str, otherwise: str, argv: Sequence[str]) -> list[str]:
    """The configuration of a run directory as arguments, in front of the command's own.

    Raises:
        FanfoldError: The directory holds no run; the message ends with what to do otherwise. Or its configuration holds
            more than a run's, or names what no code may be run of without leave, see `trust`.
    """
    base, asked = check_run(path, otherwise), listed(argv, "--trust")
    if strange := set(undotted(read_config(base[1]))) - {*CONFIGURATION, "seed"}:
        raise FanfoldError(f"The configuration {base[1]} holds {shown(min(strange))}, which no run's does.")
    alone = {section: chosen_name(base, section) for section in OWN if chosen_name(argv, section) is None}
    check_leave(path, {section: name for section, name in alone.items() if name is not None}, asked)
    if chosen_name(argv, "cluster", "kind") is None:
        check_scheduler(path, chosen_name(base, "cluster", "kind") or "")
    return base


def flag_value(argv: Sequence[str], flag: str) -> str | None:
    """The last value that the arguments give a flag, before they are parsed; "" where it has none."""
    return dict(pairs(argv)).get(flag)


def check_source(options: Namespace) -> None:
    """Raise FanfoldError where neither the store nor the source of the data set is there."""
    from fanfold.data import places  # only here: NumPy

    dataset = options.dataset
    places.check_source(dataset.name, getattr(dataset, "source", None), dataset.store)


def parse(
    parser: ArgumentParser, argv: Sequence[str], check: Callable[[Namespace], None] = lambda _: None
) -> Namespace:
    """Parse the arguments; every section becomes its dataclass.

    `check` sees them before anything is imported that takes seconds.

    Raises:
        FanfoldError: An unknown flag, a value of the wrong type, or one out of its range.
    """
    if _collecting.get():
        raise CollectedError(parser)
    try:
        words, paths = apart(parser, ["--help"] if {"-h", "--help"} & set(argv) else checked(parser, argv))
        options: Namespace = parser.instantiate(parser.parse_args(words))
        for name, path in paths.items():
            options[name] = path
    except ArgumentError as error:
        if isinstance(error.__cause__, FanfoldError):
            raise error.__cause__ from error
        if "surrogates not allowed" in str(error):
            raise FanfoldError(
                "A path that is no UTF-8 can't be given here: rename it, or work in its folder and name it from there."
            ) from error
        raise FanfoldError(_one_line(str(error), parser)) from error
    check(options)
    # Those without variants are imported quickly, and so come first.
    for name in sorted(vars(options), key=lambda name: name in VARIANTS):
        if is_section(getattr(options, name)):
            setattr(options, name, real(getattr(options, name)))
    return options


def configuration(options: Namespace) -> "Configuration":
    """The configuration of a run that parsed arguments hold."""
    from fanfold.pipeline.configuration import Configuration  # only here: PyTorch

    return Configuration(**{field.name: getattr(options, field.name) for field in fields(Configuration)})


def decided(options: Namespace, *, trains: bool = True) -> "Experiment":
    """The experiment that parsed arguments ask for; prints why `auto` fell back to another data set, if it did.

    Raises:
        FanfoldError: See `decide`.
    """
    from fanfold.pipeline.experiment import decide  # only here: PyTorch

    experiment = decide(configuration(options), trains=trains)
    say_notes(experiment)
    return experiment


def say_notes(experiment: "Experiment") -> None:
    """Print what the user has to know of an experiment's data."""
    if experiment.note:
        say(experiment.note)
    for line in experiment.told:
        _tell_once(line)


@cache
def _tell_once(line: str) -> None:
    """Print a line; a search, which decides on many experiments, prints it once."""
    say(line)


def _one_line(message: str, parser: ArgumentParser) -> str:
    """The parser's error in one line that says how to mend it."""
    message = " ".join(message.split())
    if absent := re.search(r"arguments are required: ([^\s,]+)", message):
        found = next((action for action in parser._actions if action.dest == absent[1]), None)
        if found is not None and not found.option_strings:
            kind = kind_of(found)
            what = in_words(kind) if get_origin(kind) is Literal else found.help
            return f"{found.dest.upper()} is needed: {what}."
        default = ", or give the field a default" if absent[1].startswith("algorithm.") else ""
        return f"--{absent[1].removeprefix('--')} is needed: give it a value{default}."
    if unknown := re.match(r"[Uu]nrecognized arguments: (\S+)", message):
        return f"Unknown word {shown(unknown[1])}: see --help."
    return message
