"""What the user has to know of the data before a run begins."""

from dataclasses import replace

from fanfold.data.splits import split_classes
from fanfold.data.store import open_store, write_store
from fanfold.pipeline.experiment import _told
from fanfold.tasks.episodes import Stream
from tests.pipeline.conftest import PatternSource


def test_classes_that_are_too_small_for_the_tasks_are_named(recipe, tmp_path):
    whole = open_store(recipe.store)
    small = int(split_classes(whole, recipe.split).train[1])

    class Unequal(PatternSource):
        counts = tuple(2 if number == small else 8 for number in range(60))

    path = tmp_path / "unequal.zarr"
    write_store(path, Unequal(), progress=False)
    streams = [Stream.TRAIN, Stream.VALIDATION]
    found = _told(replace(recipe, store=str(path)), open_store(path), streams)
    name = "/".join(whole.names[small])
    assert found == [f"Too few pictures for the train tasks, so left out: {name}."]
    assert _told(recipe, whole, streams) == []
