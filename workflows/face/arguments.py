"""From the arguments of a Python call to a configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias, get_type_hints

import numpy as np
from torch import nn

from fanfold.data.advice import did_you_mean
from fanfold.data.datasets import DATASETS
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import WORDS, KindError, of_kind, wanted
from fanfold.data.remote import is_remote
from fanfold.data.store import Store
from fanfold.pipeline import yaml_text
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.configuration import SECTIONS, Configuration, EvaluationConfig, TaskConfig, TrainTask
from fanfold.pipeline.experiment import Experiment, decide
from fanfold.pipeline.recipe import Meta
from fanfold.pipeline.search.config import SearchConfig
from fanfold.tasks import given
from fanfold.tasks.algorithm import Algorithm
from fanfold.tasks.algorithms.registry import ALGORITHMS
from fanfold.tasks.models import PluginModel, handed_over
from fanfold.tasks.plugins import import_class
from fanfold.workflows.cli.arguments import ANYWHERE, as_section, undotted
from fanfold.workflows.cli.configs import read_config
from fanfold.workflows.cli.configuration import DEFAULTS, variant
from fanfold.workflows.cli.listeners import Recording
from fanfold.workflows.cli.settings import real_class
from fanfold.workflows.cli.trust import OWN

Section: TypeAlias = Mapping[str, Any]
"""Fields of one section of the configuration, such as `{"lr": 0.01}`."""
Data: TypeAlias = str | PathLike[str] | Store
"""A store, or the path of one; a folder of class folders; or the name of a data set."""
AnAlgorithm: TypeAlias = str | Section | Algorithm
"""A name, a name with hyperparameters such as `{"name": "maml", "inner_lr": 0.4}`, or an algorithm itself."""
AModel: TypeAlias = str | Section | nn.Module | type[nn.Module]
"""A name, a name with settings such as `{"name": "conv4", "width": 32}`, a module, or a module's class."""

KINDS: Mapping[str, type] = {
    "task": TaskConfig,
    "train": TrainTask,
    "meta": Meta,
    "evaluation": EvaluationConfig,
    "cluster": ClusterConfig,
    "record": Recording,
    "search": SearchConfig,
}
WANTED = {
    "algorithm": "a name, a mapping such as {'name': 'maml', 'inner_lr': 0.4}, or an algorithm of a class of your own",
    "model": "a name, a mapping such as {'name': 'conv4', 'width': 32}, or a torch.nn.Module or its class",
}
"""What the arguments may be that take more than fields."""


IN_PYTHON = {**WORDS, bool: "True or False", str: "a text", NoneType: "None"}
"""Types in the words of Python."""


@dataclass(frozen=True)
class Asked:
    """A configuration, and what of it Python alone can hand over."""

    configuration: Configuration
    given: Mapping[str, Any]  # by section, what a run directory keeps in the place of an object
    digests: tuple[str, ...] = ()  # of the objects

    def kept(self, section: str) -> Any:
        """A section as a run directory keeps it."""
        return self.given.get(section) or getattr(self.configuration, section)

    def decided(self, *, trains: bool = True) -> Experiment:
        """The experiment, see `fanfold.pipeline.experiment.decide`.

        Raises:
            FanfoldError: What was asked doesn't fit together.
        """
        plan = decide(self.configuration, trains=trains)
        return replace(plan, config={**plan.config, **self.given})


def ask(base: Section, arguments: Mapping[str, Any], cluster: ClusterConfig | None = None) -> Asked:
    """The configuration of a call.

    Args:
        base: What holds where an argument says nothing, by section: a file's content, or that of a run.
        arguments: What was given, by section: fields, a name, or an object.
        cluster: The cluster's settings, of no account where it is handed over.

    Raises:
        FanfoldError: A field is unknown, of another type, or out of its range.
    """
    seed = fitting("seed", arguments.get("seed", base.get("seed", 0)), int)
    sections: dict[str, Any] = {"seed": seed, "cluster": cluster or ClusterConfig()}
    kept: dict[str, Any] = {}
    digests: list[str] = []
    merged = {**{name: base.get(name, {}) for name in SECTIONS}, **arguments}
    for name in SECTIONS:
        if name != "cluster":
            asked = merged[name]
            found = _object(name, asked) if name in ("algorithm", "model") else asked
            if isinstance(found, _Handed):
                sections[name], kept[name] = found.used, found.kept
                digests.append(found.digest)
            else:
                sections[name] = (
                    found if _is_whole(found) else configured(name, _merge(name, base.get(name, {}), found))
                )
    return Asked(Configuration(**sections), kept, tuple(digests))


def configured(section: str, values: Section) -> Any:
    """A section's dataclass.

    Raises:
        FanfoldError: A field is unknown, of another type, or out of its range.
    """
    kind: Any = KINDS.get(section)
    if kind is None:
        name = fitting(f"{section}.name", values.get("name", DEFAULTS[section]), str)
        kind, values = _variant(section, name), {**values, "name": name}
    hints = get_type_hints(kind)
    known = [part.name for part in fields(kind) if part.init]
    for name in values:
        if name not in known:
            there = ", ".join(part for part in known if part != "name")
            raise FanfoldError(f"{section} has no field '{name}': there are {there}.{did_you_mean(str(name), known)}")
    for part in fields(kind):
        if part.init and part.name not in values and part.default is MISSING and part.default_factory is MISSING:
            example = f"{section}={{'name': {values.get('name')!r}, {part.name!r}: …}}"
            raise FanfoldError(f"{section} needs '{part.name}', as in {example}; or give the field a default.")
    return kind(**{name: fitting(f"{section}.{name}", value, hints[name]) for name, value in values.items()})


def dataset_section(data: Data | None, **more: Any) -> dict[str, Any]:
    """The section `dataset` for what a call names as its data."""
    more = {name: value for name, value in more.items() if value is not None}
    if data is None:
        return more
    if isinstance(data, Store):
        return {"name": "auto", "store": str(data.path), **more}
    if not isinstance(data, (str, PathLike)):
        raise FanfoldError(
            f"data must be a store, a folder, or the name of a data set, not {data!r:.100}: arrays and lists of "
            "pictures are made a store by fanfold.prepare."
        )
    if is_remote(data):
        return {"name": "auto", "store": str(data), **more}
    path = Path(data)
    if isinstance(data, str) and data in DATASETS and data != "folder":
        return {"name": data, **more}
    if (path / "zarr.json").exists():
        return {"name": "auto", "store": str(path), **more}
    if path.is_dir() or path.is_file():
        return {"name": "folder", "source": str(path), **more}
    names = ", ".join(name for name in DATASETS if name != "folder")
    raise FanfoldError(f"No data '{path}': give a folder of class folders, a store, or one of {names}.")


def read_base(config: str | PathLike[str] | None) -> Section:
    """The sections of a configuration, as `--config` reads it: a file's, or one of Fanfold's; none without a name.

    Raises:
        FanfoldError: It can't be read, or has a key that is none of a configuration's.
    """
    if config is None:
        return {}
    where, found = f"The configuration {fspath(config)}: ", undotted(read_config(fspath(config)))
    if unknown := [key for key in found if key not in ANYWHERE]:
        hint = did_you_mean(unknown[0], sorted(ANYWHERE))
        raise FanfoldError(f"{where}unknown key '{unknown[0]}': there are {', '.join(sorted(ANYWHERE))}.{hint}")
    return {key: value if key == "seed" else as_section(f"{where}`{key}:`", key, value) for key, value in found.items()}


def own_names(base: Section, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The names of model and algorithm that stand in a run's configuration, where a call gives no others."""
    found = dict[str, str]()
    for section in OWN:
        held, asked = base.get(section), arguments.get(section)
        name = held.get("name") if isinstance(held, Mapping) else held
        if name is not None and (asked is None or (isinstance(asked, Mapping) and "name" not in asked)):
            found[section] = str(name)
    return found


def some(**arguments: Any) -> dict[str, Any]:
    """The arguments that were given."""
    return {name: value for name, value in arguments.items() if value is not None}


def with_plain(section: str, fields_given: Section | None, **plain: Any) -> dict[str, Any]:
    """A section's mapping with those of its fields that have arguments of their own.

    Raises:
        FanfoldError: It is no mapping, or a field is given twice.
    """
    fields_given, plain = {} if fields_given is None else fields_given, some(**plain)
    if not isinstance(fields_given, Mapping):
        raise FanfoldError(f"{section} must be a mapping of fields to values, not {fields_given!r:.100}.")
    if twice := next((name for name in plain if name in fields_given), None):
        raise FanfoldError(f"{twice} is given twice, by itself and in {section}: leave one out.")
    return {**fields_given, **plain}


def fitting(where: str, value: Any, kind: Any) -> Any:
    """A value as its field's type wants it: `2` for a float becomes `2.0`, and NumPy's numbers become Python's.

    Raises:
        FanfoldError: It is of another type.
    """
    plain = _plain(value)
    try:
        return of_kind(kind, plain)
    except KindError as error:
        raise FanfoldError(f"`{where}` must be {wanted(kind, plain, IN_PYTHON)}, not {value!r:.100}.") from error


def _plain(value: Any) -> Any:
    """A value as YAML would give it: NumPy's as Python's, a path as text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value


@dataclass(frozen=True)
class _Handed:
    """An object that was handed over: what the run uses, and what its directory keeps."""

    used: Any
    kept: Any
    digest: str


def _object(section: str, found: Any) -> Any:
    """What a call gives for an algorithm or a model: fields, a whole configuration, or a handed object."""
    if section == "model" and isinstance(found, type) and issubclass(found, nn.Module):
        if name := given.importable(found):
            return {"name": name}
        return _handed_model(found)
    if section == "model" and isinstance(found, nn.Module):
        return _handed_model(found)
    if section == "algorithm" and isinstance(found, Algorithm):
        return _algorithm(found)
    if section == "algorithm" and isinstance(found, type) and issubclass(found, Algorithm):
        raise FanfoldError(f"algorithm must be an object, not a class: give {found.__name__}(), with parentheses.")
    return found


def _handed_model(found: nn.Module | type[nn.Module]) -> _Handed:
    model = handed_over(found)
    return _Handed(model, PluginModel(model.name), model.digest)


def _algorithm(found: Algorithm) -> Any:
    """An algorithm as a section's configuration: by name where its class has one, else handed over."""
    kind = type(found)
    if kind in ALGORITHMS.values():
        return found
    try:
        hash(found)
        yaml_text.dump(asdict(found))
    except (TypeError, yaml_text.YAMLError) as error:
        raise FanfoldError(
            f"The algorithm {kind.__name__} must be a frozen dataclass of plain values: @dataclass(frozen=True), "
            "with numbers, texts and tuples as fields."
        ) from error
    if name := given.importable(kind):
        return replace(found, name=name)
    digest = given.digest_of(found) or given.give("algorithm", found)
    return _Handed(given.shared(digest), replace(found, name=f"{given.PREFIX}:{kind.__name__}"), digest)


def _variant(section: str, name: str) -> type:
    """The dataclass of a variant.

    Raises:
        FanfoldError: There is no variant of that name.
    """
    if name.startswith(f"{given.PREFIX}:"):
        import_class(section, name)  # says that the object is needed again
    return real_class(variant(section, name))


def _is_whole(found: Any) -> bool:
    return is_dataclass(found) and not isinstance(found, type)


def _merge(section: str, base: Section, found: Any) -> Section:
    """A section's fields over those that hold otherwise; another variant keeps none of these."""
    fields_given = {"name": found} if isinstance(found, str) else found
    if not isinstance(fields_given, Mapping):
        raise FanfoldError(
            f"{section} must be {WANTED.get(section, 'a mapping of fields to values')}, not {found!r:.100}."
        )
    other = "name" in fields_given and fields_given["name"] != base.get("name")
    return dict(fields_given) if other else {**base, **fields_given}
