"""Tests on other data than a run was trained on."""

from dataclasses import replace
from pathlib import Path

from fanfold.data.conversion import find_converted
from fanfold.data.datasets import Auto, Dataset
from fanfold.data.errors import FanfoldError
from fanfold.data.pictures import Preprocessing
from fanfold.data.splits import ALL
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
    store = None if own.dataset.store is None else Path(own.dataset.store)
    home = decide(own, trains=False) if store is not None and store.exists() else None
    if found.preprocessing is not None:
        wanted = Preprocessing.from_dict(found.preprocessing)
    elif home is not None:
        wanted = open_store(home.recipe.store).preprocessing
    else:
        raise FanfoldError(f"{directory.path} doesn't say how its pictures were prepared: train it again.")
    other = find_converted(dataset, wanted)
    if other.digest == found.fingerprint:
        there = Auto(store=str(other.path), split=split or own.dataset.split)
        return decide(replace(own, dataset=there), trains=False), None
    there = Auto(store=str(other.path), split=split or ALL)
    plan = decide(replace(own, dataset=there), trains=False)
    line = f"tested on other data than trained on: {other}"
    return replace(plan, told=(line, *plan.told)), None if home is None else home.recipe
