"""Tests on other data than a run was trained on."""

from dataclasses import replace
from typing import Literal

from fanfold.data.conversion import find_converted
from fanfold.data.datasets import Auto, Dataset
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.data.remote import place
from fanfold.data.splits import ALL, split_classes
from fanfold.data.store import open_store
from fanfold.pipeline.checkpoint import newest_checkpoint
from fanfold.pipeline.configuration import Configuration
from fanfold.pipeline.experiment import Experiment, decide
from fanfold.pipeline.recipe import Recipe
from fanfold.pipeline.recording.run_directory import RunDirectory


def on_other_data(
    own: Configuration, dataset: Dataset, split: str | None, directory: RunDirectory
) -> tuple[Experiment, Recipe | None]:
    """The plan of a run's test on a data set, whose pictures are brought to the size and colours of the run's.

    Without a split all classes test, as none of them was trained on. The run's own data, at another place, are tested
    on as ever.

    Returns:
        The plan, and the run's own recipe, for what a test needs of its training data; None where they are gone.

    Raises:
        FanfoldError: The data can't be read, or the tasks can't be drawn from them.
    """
    found, _ = newest_checkpoint(directory.last)
    home = decide(own, trains=False) if own.dataset.store is not None and place(own.dataset.store).exists() else None
    if found.preprocessing is not None:
        wanted = Preprocessing.from_dict(found.preprocessing)
    elif home is not None:
        wanted = open_store(home.recipe.store).preprocessing
    else:
        raise FanfoldError(f"{directory.path} doesn't say how its pictures were prepared: train it again.")
    other, note = find_converted(dataset, wanted)
    noted = () if note is None else (note,)
    if other.digest == found.fingerprint:
        there = Auto(store=str(other.path), split=split or own.dataset.split)
        plan = decide(replace(own, dataset=there), trains=False)
        return replace(plan, told=(*noted, *plan.told)), None
    there = Auto(store=str(other.path), split=split or ALL)
    plan = decide(replace(own, dataset=there), trains=False)
    lines = [f"tested on other data than trained on: {other}"]
    if home is not None and (shared := _classes(home.recipe, "train") & _classes(plan.recipe, "test")):
        lines.append(
            f"{len(shared):,} of its classes, such as {min(shared)}, are called as classes that the run was trained "
            "on: where they are the same, the test accuracy is optimistic"
        )
    return replace(plan, told=(*noted, *lines, *plan.told)), None if home is None else home.recipe


def _classes(recipe: Recipe, part: Literal["train", "test"]) -> set[str]:
    """The names of the classes of a part of a recipe's split."""
    store = open_store(recipe.store)
    return {store.names[place].name for place in getattr(split_classes(store, recipe.split), part).tolist()}
