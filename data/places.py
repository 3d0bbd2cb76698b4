"""Where stores lie by default; and whether there is anything to make a store of, found out without importing Zarr."""

import hashlib
import os
from pathlib import Path

from fanfold.data.advice import as_text
from fanfold.data.errors import FanfoldError

STORES = Path("stores")
"""The default folder of stores, below the current directory."""

NAME_FOLDER = "name one of class folders with `dataset.source`"
NAME_OMNIGLOT = (
    "name a folder that holds the two official archives (images_background.zip, images_evaluation.zip) or their "
    "unpacked folders with `dataset.source` or OMNIGLOT_SOURCE"
)
"""What to do where a source isn't there."""


def of_folder(source: str) -> tuple[Path, Path]:
    """The default place of the store of a folder or file, and where it lies if another of that name is there."""
    path = Path(source).resolve()
    plain = STORES / f"{path.stem if path.is_file() else as_text(path.name)}.zarr"
    return plain, plain.with_name(f"{plain.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}.zarr")


def check_source(name: str, source: str | None, store: str | None) -> None:
    """Check that a data set's source is there, where a store has to be made of it.

    Args:
        name: The data set's name.
        source: Its folder or file, or None where none was named.
        store: The store's path or address, or None for the default one.

    Raises:
        FanfoldError: Neither the source nor the store is there.
    """
    if source is None or Path(source).exists() or (store is not None and ("://" in store or Path(store).exists())):
        return
    if store is None:
        named = {"auto": ("omniglot", "glyphs")}.get(name, (name,))
        places = of_folder(source) if name == "folder" else [STORES / f"{one}.zarr" for one in named]
        if any(place.exists() for place in places):
            return
    what = {
        "folder": NAME_FOLDER,
        "cifar-fs": "name CIFAR-100's archive, or the folder that holds it, with `dataset.source`",
    }.get(name, f"{NAME_OMNIGLOT}, or give `dataset.name=folder` for pictures of your own")
    raise FanfoldError(f"{source}: there is no such folder or file; {what}")
