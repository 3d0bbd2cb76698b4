"""From a configuration to a recipe: all that the configuration leaves open is decided before anything starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from fanfold.data.advice import as_text, in_fields
from fanfold.data.datasets import DATASETS, Auto, CifarFs, Dataset, Folder, Glyphs, Omniglot, find_store
from fanfold.data.errors import FanfoldError
from fanfold.data.splits import ALL, default_split, split_classes
from fanfold.data.store import Store, open_store
from fanfold.pipeline import worker, yaml_text
from fanfold.pipeline.cluster.config import ClusterConfig
from fanfold.pipeline.configuration import (
    QUERIES,
    SECTIONS,
    TRAIN_QUERIES,
    WAYS,
    Configuration,
    EvaluationConfig,
    TrainTask,
    flatten_keys,
    to_yaml,
)
from fanfold.pipeline.recipe import Meta, Recipe
from fanfold.pipeline.recording.kept import read_configuration
from fanfold.tasks.backbones import resolved
from fanfold.tasks.episodes import Stream
from fanfold.tasks.fitted import Fitted

_NAMED = 8  # small classes at most

PATHS = ("dataset.store", "dataset.source", "model.weights")
# A resumed run may change its length, its cluster and its paths; see `resume_free`.
RESUME_FREE = ("meta.iterations", "meta.minutes", "evaluation.patience", "cluster.", *PATHS)
_BEFORE = {"evaluation.flip": False}  # what configurations do that were written before a key was there
# A test may differ in these keys from the training of its parameters.
EVALUATE_FREE = (
    *("seed", "dataset.split", "task.ways", "task.shots", "task.queries", "task.rotations", "task.reflections"),
    *("train.shots", "train.queries", "train.rotations", "train.reflections", "train.augment"),
    *("meta.chunk", "meta.threads"),
    *("evaluation.", "cluster.", *PATHS),
)


@dataclass(frozen=True)
class Experiment:
    """A run with nothing left open."""

    config: Mapping[str, Any]  # resolved, by section, as it is kept in the run directory
    recipe: Recipe  # for a CPU
    evaluation: EvaluationConfig
    cluster: ClusterConfig
    note: str | None  # why the data set `auto` fell back to another one; None if it did not
    told: tuple[str, ...] = ()  # what else the user has to know of the data, a line each

    @property
    def yaml(self) -> str:
        """The resolved configuration as YAML."""
        return to_yaml(dict(self.config))

    @property
    def flat(self) -> dict[str, Any]:
        """The resolved configuration by dotted keys."""
        return flatten_keys(yaml_text.load(self.yaml))


def decide(asked: Configuration, *, trains: bool = True) -> Experiment:
    """Decide all that a configuration leaves open, and prepare a missing default store.

    An experiment that trains nothing may test with any number of ways, and needs no classes but those it tests with.

    Raises:
        FanfoldError: The store, the tasks, the split or the model don't fit together.
    """
    if asked.evaluation.steps is not None and not hasattr(asked.algorithm, "inner_steps"):
        raise FanfoldError(
            f"{asked.algorithm.name} has no inner steps: leave `evaluation.steps` out, or set it to null."
        )
    dataset, note = resolve_dataset(asked.dataset)
    if trains and dataset.split == ALL:
        raise FanfoldError("`dataset.split=all` has no classes to train on: it is for tests of other data.")
    store = open_store(str(dataset.store))
    turns = store.preprocessing.handwriting and not getattr(asked.model, "freeze", False)
    streams = [Stream.VALIDATION, Stream.TEST, Stream.TRAIN] if trains else [Stream.TEST]
    split = split_classes(store, str(dataset.split))
    task = asked.task.shape([store.counts[worker.part_of(split, one)] for one in streams if one != Stream.TRAIN])
    shape = asked.train.shape(task, store.counts[split.train], handwriting=turns, many=not asked.algorithm.head)
    if trains and asked.algorithm.head and shape.ways != task.ways:
        raise FanfoldError(
            f"{asked.algorithm.name} is tested with as many ways as it was trained with: give `train.ways` and "
            f"`task.ways` the same number, not {shape.ways} and {task.ways}."
        )
    if asked.meta.initial is not None:
        asked = replace(asked, meta=replace(asked.meta, initial=str(Path(asked.meta.initial).resolve())))
    asked = replace(asked, model=resolved(asked.model))
    recipe = Recipe(
        seed=asked.seed,
        store=str(dataset.store),
        split=str(dataset.split),
        algorithm=asked.algorithm,
        model=asked.model,
        train=shape,
        task=task,
        steps=asked.evaluation.steps,
        meta=asked.meta,
        augment=asked.train.augment,
        flip=asked.evaluation.flip,
    )
    config = {
        "seed": asked.seed,
        **{section: getattr(asked, section) for section in SECTIONS},
        "dataset": dataset,
        "task": task,
        "train": TrainTask(
            shape.ways, shape.shots, shape.queries, shape.rotations, shape.reflections, asked.train.augment
        ),
    }
    recipe = worker.check_recipe(recipe, streams)
    if trains and isinstance(recipe.algorithm, Fitted) and worker.open_context(recipe).network.shapes:
        raise FanfoldError(
            f"{recipe.algorithm.name} learns from embeddings, and trains no network: freeze one that is trained, by "
            "`model.weights` and `model.freeze=true`; or train by another algorithm, and judge that run by "
            f"`evaluate algorithm.name={recipe.algorithm.name}`."
        )
    told = (*_told(recipe, store, streams), *_smaller(asked, recipe, trains))
    return Experiment(config, recipe, asked.evaluation, asked.cluster, note, told)


def _smaller(asked: Configuration, recipe: Recipe, trains: bool) -> list[str]:
    """What the user has to know where tasks are smaller than they usually are, as there are few classes or pictures."""
    usual = [("task", "ways", WAYS), ("task", "queries", QUERIES)]
    usual += [("train", "queries", TRAIN_QUERIES)] if trains else []
    fewer = {
        f"{section}.{name}": getattr(getattr(recipe, section), name)
        for section, name, most in usual
        if getattr(getattr(asked, section), name) == "auto" and getattr(getattr(recipe, section), name) < most
    }
    return [f"Few classes or pictures, hence small tasks: {in_fields(fewer)}."] if fewer else []


def _told(recipe: Recipe, store: Store, streams: Sequence[Stream]) -> list[str]:
    """What the user has to know of the data: shared classes, and classes that are too small for the tasks."""
    opened = worker.open_context(recipe)
    lines = []
    if opened.split.shared:
        lines.append(
            f"The same {len(opened.split.test)} classes validate and test, as there are only {len(store.names)}: the "
            "test accuracy is optimistic."
        )
    for stream in streams:
        small = np.setdiff1d(worker.part_of(opened.split, stream), opened.classes(stream)).tolist()
        if small:
            named = ", ".join("/".join(filter(None, store.names[number])) for number in small[:_NAMED])
            more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
            lines.append(f"Too few pictures for the {stream.name.lower()} tasks, so left out: {named}{more}.")
    return lines


def resume_free(meta: Meta) -> list[str]:
    """The keys that a resumed run may change."""
    # The rates of a falling schedule depend on its end.
    return [key for key in RESUME_FREE if key != "meta.iterations" or meta.schedule == "constant"]


def check_agreement(experiment: Experiment, saved: Path, free: Sequence[str], what: str) -> None:
    """Raise FanfoldError if an experiment differs from a run's configuration in other keys than the free ones.

    `free` names keys; one that ends in a point stands for a section. `what` is the subject of the error's message.
    """
    asked = experiment.flat
    before = {**_BEFORE, **flatten_keys(read_configuration(saved))}
    different = [
        f"`{key}` (was {before.get(key)}, now {asked.get(key)})"
        for key in dict.fromkeys((*before, *asked))
        if before.get(key) != asked.get(key)
        and not any(key.startswith(name) if name.endswith(".") else key == name for name in free)
    ]
    if different:
        raise FanfoldError(f"{what} must agree with its run: {', '.join(different)}.")


def resolve_dataset(dataset: Dataset) -> tuple[Omniglot | Glyphs | CifarFs | Folder, str | None]:
    """Find the store, or prepare a missing default one.

    Returns:
        The data set's configuration with `auto` and defaults resolved, and why `auto` fell back to another data set, or
        None.

    Raises:
        FanfoldError: The store can't be found or prepared.
    """
    prepared = find_store(dataset)
    path = str(prepared.path.resolve())
    if not isinstance(dataset, Auto):
        found: dict[str, Any] = {"store": path}
        if dataset.split is None:
            found["split"] = default_split(open_store(prepared.path))
        if isinstance(dataset, Folder):
            found["size"] = open_store(prepared.path).preprocessing.size
            found["source"] = None if dataset.source is None else as_text(dataset.source)  # files of a run are UTF-8
        return replace(dataset, **found), prepared.note
    if prepared.dataset not in DATASETS:
        raise FanfoldError(f"The store {path} holds '{prepared.dataset}': choose one of {', '.join(DATASETS)}.")
    chosen = cast(type[Omniglot | Glyphs | CifarFs | Folder], DATASETS[prepared.dataset])
    kept: dict[str, Any] = {"store": path, "split": dataset.split, "source": dataset.source}
    store = open_store(prepared.path)
    kept["split"] = kept["split"] or default_split(store)
    made = store.origin.get("settings")
    kept |= {key.removeprefix("dataset."): value for key, value in made.items()} if isinstance(made, Mapping) else {}
    known = {part.name for part in fields(chosen)}
    return chosen(**{key: value for key, value in kept.items() if key in known and value is not None}), prepared.note
