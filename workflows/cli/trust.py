"""Leave to run the code of others: what a run directory names that is none of Fanfold's.

A run directory may come from somebody else. Its configuration may name a model or an algorithm as
`package.module:Class`, whose import runs code, and a scheduler, whose messages Dask unpickles. Neither happens by
looking at the run. What the command's own flags or its `--config` name is trusted, and so is what Python hands over.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from jsonargparse import ArgumentParser

from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import shown
from fanfold.pipeline.cluster.config import is_local

OWN: Final = ("algorithm", "model")  # sections whose variant may be a user's own
OBJECT: Final = "object"  # stands in the place of a package for what Python handed over; it is never imported

HELP: Final = "packages that a run directory's own models and algorithms may be imported from"


def add_trust_flag(parser: ArgumentParser) -> None:
    """Add the flag that gives leave."""
    parser.add_argument("--trust", type=str, nargs="+", default=[], metavar="PACKAGE", help=HELP)


def package_of(name: Any) -> str | None:
    """The package of a name `package.module:Class`; None for one of Fanfold's, and for an object of Python's."""
    module, colon, _ = str(name).partition(":")
    return module.partition(".")[0] if colon and module != OBJECT else None


def leave_for(config: Mapping[str, Any]) -> list[str]:
    """The settings that give leave for all that a run's configuration names, for a command that goes on with the run.

    Args:
        config: The configuration by section, each a dataclass.
    """
    return leave_of((getattr(config[section], "name", "") for section in OWN), config["cluster"].kind)


def leave_of(names: Iterable[Any], kind: str) -> list[str]:
    """Likewise, for the names of a model and an algorithm, and where a run computes."""
    packages = map(package_of, names)
    found = [f"trust={package}" for package in dict.fromkeys(packages) if package]
    return found if "://" not in kind or is_local(kind) else [*found, f"cluster.kind={kind}"]


def as_flags(settings: Iterable[str]) -> list[str]:
    """Settings such as `trust=PACKAGE` as flags."""
    return [word for setting in settings for word in (f"--{setting}".split("=", 1))]


def check_leave(run: object, names: Mapping[str, str], trusted: Sequence[str]) -> None:
    """Check that there is leave to import the models and algorithms that a run directory names.

    Args:
        run: The run directory, for the message.
        names: The names that stand there and nowhere else, by section.
        trusted: Packages, or modules, that may be imported.

    Raises:
        FanfoldError: There is none; the message says what would be imported, and how to give leave.
    """
    if isinstance(trusted, str) or not all(isinstance(name, str) and _is_module(name) for name in trusted):
        raise FanfoldError(f"`trust` must name packages, such as `my_models`, not {shown(trusted)}.")
    for section, name in names.items():
        package, module = package_of(name), name.partition(":")[0]
        if package and not any(module == leave or module.startswith(f"{leave}.") for leave in trusted):
            raise FanfoldError(
                f"The run {run} names the {section} {shown(name)}, and importing {shown(module)} runs its code: if you "
                f"trust it, give `trust={package if _is_module(package) else 'PACKAGE'}`."
            )


def check_scheduler(run: object, address: str) -> None:
    """Check that the scheduler that a run directory alone names is none of another machine.

    Raises:
        FanfoldError: It is.
    """
    if "://" in address and not is_local(address):
        raise FanfoldError(
            f"The run {run} names the scheduler {shown(address)}, which could run code here: name it again if you "
            "trust it, with `cluster.kind`, or compute here with `cluster.kind=auto`."
        )


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def listed(argv: Iterable[str], flag: str) -> list[str]:
    """All values that the arguments give a flag that takes several.

    Raises:
        FanfoldError: It stands there without any.
    """
    found, bare, naming = list[str](), False, False
    for word in argv:
        if word.startswith("--"):
            if bare:
                break
            name, equals, value = word.partition("=")
            naming = name == flag
            bare = naming and not equals
            found += [value] if naming and value else []
        elif naming:
            found.append(word)
            bare = False
    if bare:
        raise FanfoldError(f"{flag} needs a value: {flag} {'PACKAGE' if flag == '--trust' else flag[2:].upper()}.")
    return found
