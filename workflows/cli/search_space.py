"""A search's space, read from YAML and checked against the configuration's types before anything runs.

    algorithm.inner_lr: {low: 0.01, high: 1.0, log: true}
    algorithm.inner_steps: {low: 1, high: 5}
    algorithm.name: {choices: [maml, anil]}
    algorithm.first_order: {choices: [true, false], when: {algorithm.name: maml}}

Each configuration key has a range (`low`, `high`, optionally `log` or `step`), of integers where the configuration
wants these, or `choices`. With `when`, a key counts only in trials in which other keys took one of the given values.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any, get_type_hints

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from fanfold.data.advice import did_you_mean
from fanfold.data.errors import FanfoldError
from fanfold.data.kinds import KindError, either, in_words, of_kind, parts
from fanfold.pipeline.recording.kept import read_yaml
from fanfold.pipeline.search.params import Value
from fanfold.pipeline.search.space import Dimension, Space
from fanfold.workflows.cli.configuration import variant
from fanfold.workflows.cli.flags import SECTIONS
from fanfold.workflows.cli.settings import settings

SPACES = Path(__file__).parents[1] / "spaces"

# Keys that decide how trials are judged; a search may not vary them.
JUDGES = ("seed", "dataset", "task", "cluster", "search", "run")
VALIDATION = ("every", "validation_tasks", "tasks", "other_tasks")
WORDS = ("low", "high", "log", "step", "choices", "when")

Check = Callable[[Mapping[str, Value]], object]  # of some keys' values; raises FanfoldError


def default_space(algorithm: str) -> Path:
    """An algorithm's default space.

    Raises:
        FanfoldError: There is none, as for a plugin.
    """
    path = SPACES / f"{algorithm}.yaml"
    if not path.exists():
        raise FanfoldError(
            f"There is no default space for {algorithm}: write one, and name it with `search.space`; "
            f"{SPACES / 'maml.yaml'} is an example."
        )
    return path


def read_space(source: Path | Mapping[str, Any], chosen: Mapping[str, str | type], check: Check) -> Space:
    """Read a space from a file or a mapping, and check the ends of its ranges and all its choices.

    `chosen` are the configuration's variants of `algorithm` and `model`, by their names or as their dataclasses.

    Raises:
        FanfoldError: A key is wrong; file, key and mending are named.
    """
    path, content = (source, read_yaml("space", source)) if isinstance(source, Path) else (Path("space"), source)
    entries = _entries(path, content)
    names = {key: entry["choices"] for key, entry in entries.items() if key.endswith(".name") and "choices" in entry}
    types = key_types({**{f"{section}.name": [name] for section, name in chosen.items()}, **names})
    dimensions: list[Dimension] = []
    for key in _in_order(path, entries):
        try:
            dimensions.append(_dimension(key, entries[key], types, {known.key: known for known in dimensions}))
        except FanfoldError as error:
            raise FanfoldError(f"{path}: {key}: {error}") from error
    space = Space(tuple(dimensions))
    for dimension in dimensions:
        _check(path, dimension, space, check)
    return space


def read_default_space(path: Path, chosen: Mapping[str, str | type], check: Check) -> tuple[Space, list[str]]:
    """Read a space as `read_space` does, but without choices of the training tasks' counts that the data can't take.

    The larger a count, the more classes or pictures a task needs: each choice is checked beside the largest ones that
    are kept of the counts before it, so that all that are kept go together.

    Returns:
        The space, and a line for the user on each key that lost choices.

    Raises:
        FanfoldError: Something else of the space doesn't fit.
    """
    space, told = read_space(path, chosen, lambda _: None), list[str]()
    kept, largest = list[Dimension](), dict[str, Value]()
    for dimension in space.dimensions:
        if not (dimension.key.startswith("train.") and isinstance(dimension.values, CategoricalDistribution)):
            try:
                _check(path, dimension, space, check)
            except FanfoldError as error:
                raise FanfoldError(f"{error} Write a space that suits, and name it with `search.space`.") from error
            kept.append(dimension)
            continue
        fitting, refused = list[Value](), dict[Value, str]()
        for value in dimension.probes:
            try:
                check({**largest, dimension.key: value})
                fitting.append(value)
            except FanfoldError as error:
                refused[value] = str(error)
        if refused:
            told.append(
                f"`{dimension.key}` is not searched at {either(map(str, refused))}: {next(iter(refused.values()))}"
            )
        if fitting:
            kept.append(replace(dimension, values=CategoricalDistribution(fitting)))
            largest[dimension.key] = max(fitting, key=lambda value: float(value or 0))
    return Space(tuple(kept)), told


def _check(path: Path, dimension: Dimension, space: Space, check: Check) -> None:
    """Check a dimension's values; raise FanfoldError that names it."""
    for params in _probes(dimension, space):
        try:
            check(params)
        except FanfoldError as error:
            raise FanfoldError(f"{path}: {dimension.key}: {error}") from error


def as_flags(params: Mapping[str, Value]) -> list[str]:
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params.items()]


def key_types(names: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    """The types of the keys that may be searched, given the values of `algorithm.name` and `model.name`, or classes."""
    types: dict[str, Any] = {}
    for section in ("train", "meta", "evaluation", "algorithm", "model"):
        found = (
            [settings(SECTIONS[section])]
            if section in SECTIONS
            else [
                name if isinstance(name, type) else variant(section, str(name))
                for name in names.get(f"{section}.name", ())
            ]
        )
        for configuration in found:
            hints = get_type_hints(configuration)
            types |= {f"{section}.{field.name}": hints[field.name] for field in fields(configuration)}
    return {key: kind for key, kind in types.items() if key not in {f"evaluation.{name}" for name in VALIDATION}}


def _entries(path: Path, content: Any) -> dict[str, dict[str, Any]]:
    """A space's entries by dotted keys, each with its conditions as `when`."""
    if not isinstance(content, Mapping) or not content:
        raise FanfoldError(
            f"The space {path} must name keys, such as `algorithm.inner_lr: {{low: 0.01, high: 1.0, log: true}}`."
        )
    entries = {str(key): dict(entry) if isinstance(entry, Mapping) else entry for key, entry in content.items()}
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            raise FanfoldError(f"{path}: {key}: say what values it may take: `low` and `high`, or `choices`.")
        if not isinstance(entry.setdefault("when", {}), dict):
            raise FanfoldError(
                f"{path}: {key}: `when` must name keys and their values, such as `when: {{algorithm.name: maml}}`."
            )
    return entries


def _in_order(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The keys, each after those of its conditions."""
    ordered: list[str] = []
    left = list(entries)
    while left:
        ready = next((key for key in left if not set(entries[key]["when"]) & set(left)), None)
        if ready is None:
            raise FanfoldError(f"{path}: {left[0]}: its condition depends on itself, by way of {', '.join(left)}.")
        ordered.append(ready)
        left.remove(ready)
    return ordered


def _dimension(
    key: str, entry: Mapping[str, Any], types: Mapping[str, Any], known: Mapping[str, Dimension]
) -> Dimension:
    """The dimension of one entry of the file.

    Raises:
        FanfoldError: The entry is wrong; the message says how to mend it.
    """
    section, _, name = key.partition(".")
    if section in JUDGES or (section == "evaluation" and name in VALIDATION):
        raise FanfoldError(
            "it decides how trials are judged, which must be the same for all: leave it out of the space."
        )
    if key not in types:
        raise FanfoldError(f"there is no such key in the configuration.{did_you_mean(key, types)}")
    if strange := [word for word in entry if word not in WORDS]:
        raise FanfoldError(
            f"`{strange[0]}` means nothing here: there are {', '.join(WORDS)}.{did_you_mean(strange[0], WORDS)}"
        )
    when = {other: _wanted(other, wanted, known) for other, wanted in entry["when"].items()}
    if "choices" in entry:
        if more := next((word for word in ("low", "high", "log", "step") if word in entry), None):
            raise FanfoldError(f"it has both `choices` and `{more}`: leave one out.")
        return Dimension(key, _choices(entry["choices"]), when)
    return Dimension(key, _range(entry, types[key]), when)


def _wanted(other: str, wanted: Any, known: Mapping[str, Dimension]) -> tuple[Value, ...]:
    """The values of another dimension that a condition names."""
    if other not in known:
        raise FanfoldError(f"its condition names {other}, which the space doesn't search.{did_you_mean(other, known)}")
    values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
    choices = known[other].values
    if not isinstance(choices, CategoricalDistribution):
        raise FanfoldError(f"its condition names {other}, which is a range: a condition needs `choices` there.")
    if strange := [value for value in values if value not in choices.choices]:
        raise FanfoldError(f"its condition wants {other} to be {strange[0]}, which is none of its choices.")
    return values


def _choices(choices: Any) -> BaseDistribution:
    if not isinstance(choices, list) or not choices:
        raise FanfoldError("`choices` must be a list, such as `choices: [adam, sgd]`.")
    # Optuna keeps plain values; others are kept as the text of their flags.
    plain = [json.dumps(choice) if isinstance(choice, (list, dict)) else choice for choice in choices]
    if len({(type(choice), choice) for choice in plain}) < len(plain):
        raise FanfoldError("one of its `choices` is given twice.")
    return CategoricalDistribution(plain)


def _range(entry: Mapping[str, Any], kind: Any) -> BaseDistribution:
    kinds = set(parts(kind))
    if not kinds & {int, float}:
        raise FanfoldError(f"it is {in_words(kind)}, which has no range: give `choices`.")
    for word in ("low", "high"):
        if word not in entry:
            raise FanfoldError(f"it lacks `{word}`: give `low` and `high`, or `choices`.")
    number: type[int] | type[float] = float if float in kinds else int
    low, high, step = (_number(word, entry.get(word), number) for word in ("low", "high", "step"))
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise FanfoldError(f"`log` must be true or false, not {log}.")
    assert low is not None
    assert high is not None
    if low > high:
        raise FanfoldError(f"`low` ({low:g}) is above `high` ({high:g}): exchange them.")
    if log and low <= 0:
        raise FanfoldError(f"a log scale needs `low` above 0, not {low:g}.")
    if log and step is not None:
        raise FanfoldError("`log` and `step` don't go together: leave one out, or give `choices`.")
    if step is not None and not step > 0:
        raise FanfoldError(f"`step` must be above 0, not {step:g}.")
    if number is int:
        step = int(step or 1)
        if (high - low) % step:
            raise FanfoldError(f"steps of {step} don't lead from {low:g} to {high:g}: change one of them.")
        return IntDistribution(int(low), int(high), log=log, step=step)
    if step is not None:
        steps = (high - low) / step
        if not isfinite(steps) or abs(steps - round(steps)) > 1e-8:
            raise FanfoldError(f"steps of {step:g} don't lead from {low:g} to {high:g}: change one of them.")
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _number(word: str, value: Any, number: type[int] | type[float]) -> int | float | None:
    if value is None and word == "step":
        return None
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML reads 1e-3 as text
    try:
        found: int | float = of_kind(number, value)
    except KindError as error:
        raise FanfoldError(f"`{word}` {error}") from error
    return found


def _probes(dimension: Dimension, space: Space) -> list[dict[str, Value]]:
    """Settings that check a dimension's values, with all combinations of its variants and conditions."""
    before = {known.key: known for known in space.dimensions}
    needed = [key for key in (f"{dimension.key.partition('.')[0]}.name",) if key in before]
    for key in (dimension.key, *needed):
        needed += [other for other in before[key].when if other not in needed]
    found = []
    for values in product(*(before[key].probes for key in needed if key != dimension.key)):
        params = dict(zip([key for key in needed if key != dimension.key], values, strict=True))
        if all(before[key].counts(params) for key in params) and dimension.counts(params):
            found += [{**params, dimension.key: value} for value in dimension.probes]
    return found
