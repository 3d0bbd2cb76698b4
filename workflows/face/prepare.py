"""`fanfold.prepare`."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from fanfold.data import datasets
from fanfold.data.store import Store, open_store
from fanfold.workflows.face.arguments import Data, Section, configured, dataset_section, some
from fanfold.workflows.face.showing import terminal
from fanfold.workflows.face.words import spoken


@spoken
def prepare(
    source: Data,
    path: str | PathLike[str] | None = None,
    *,
    size: int | None = None,
    dataset: Section | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Store:
    """Prepare pictures: read them once, and keep them in a Zarr store, which workers read fast.

    A store that is there already, made of the same source with the same settings, is taken as it is.

    Args:
        source: A folder of class folders; or the name of a data set: `omniglot`, `glyphs`, or `auto` for whichever of
            these there is.
        path: The store's path; by default `stores/NAME.zarr`.
        size: Height and width of the stored pictures, in pixels.
        dataset: Further settings, such as `{"channels": "grey"}`.
        overwrite: Whether to replace a store that is there.
        progress: Whether to show how it goes.

    Returns:
        The open store.

    Raises:
        fanfold.FanfoldError: The pictures can't be read, or the store there was made with other settings.

    >>> store = fanfold.prepare("pictures", size=16)
    >>> len(store.names)
    32
    """
    section = dataset_section(source, **some(size=size), **(dataset or {}))
    asked = configured("dataset", section)
    target = asked if path is None else replace(asked, store=str(path))
    there = path is not None and Path(path).exists()
    if overwrite or (path is not None and not there):
        found = datasets.prepare(target, overwrite=overwrite, progress=progress)
    else:
        found = datasets.find_store(target, progress=progress)
    if found.note:
        terminal(progress).say(found.note)
    return open_store(found.path)
