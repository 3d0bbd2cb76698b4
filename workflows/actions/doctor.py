"""Checks of a machine: what a run would meet here."""

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from fanfold.data import extras
from fanfold.data.advice import counted, one_line
from fanfold.data.errors import FanfoldError
from fanfold.data.mapped import cache_folder
from fanfold.data.places import STORES
from fanfold.data.store import open_store

SHOWN = ("torch", "torchvision", "dask", "distributed", "dask-cuda", "zarr", "numpy", "numba")
DASHBOARD = 8787
FREE = 2  # GB of a disk or of memory, below which runs are in danger


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's.

    Args:
        what: What was looked at.
        ok: Whether it is as it should be.
        text: What was found.
        blocks: Whether it stands in the way of every run.
    """

    what: str
    ok: bool
    text: str
    blocks: bool = False


def findings() -> Iterator[Finding]:
    """Look at this machine and the current folder, one thing after another."""
    for look in (_versions, _requirements, _extras, _gpus, _processor, _memory, _disk, _caches, _data, _ports):
        try:
            yield from look()
        except Exception as error:  # whatever a machine may have, the other lines are told
            yield Finding(look.__name__.strip("_"), False, f"can't be looked at ({one_line(error)})")


def _versions() -> Iterator[Finding]:
    found = {name: _version(name) for name in SHOWN}
    words = ", ".join(f"{name} {here}" for name, here in found.items() if here is not None)
    yield Finding("versions", True, f"Fanfold {_version('fanfold')}, Python {platform.python_version()}, {words}")


def _requirements() -> Iterator[Finding]:
    """What Fanfold and `rapids-dask-dependency`, which pins Dask, require of what is installed."""
    wrong = [line for package in ("fanfold", "rapids-dask-dependency") for line in _unmet(package)]
    yield Finding("requirements", not wrong, "; ".join(wrong) or "met", blocks=bool(wrong))


def _unmet(package: str) -> Iterator[str]:
    if _version(package) is None:
        return
    for line in requires(package) or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        here = _version(wanted.name)
        if here is None or not wanted.specifier.contains(here, prereleases=True):
            yield f"{package} needs {wanted.name}{wanted.specifier}, not {here or 'none'}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras() -> Iterator[Finding]:
    installed = [name for name in extras.MODULES if extras.advice(name) is None]
    absent = ", ".join(name for name in extras.MODULES if name not in installed)
    more = f"; not installed: {absent}" if absent else ""
    yield Finding("extras", True, f"{', '.join(installed) or 'none'}{more}")
    place = distribution("fanfold").locate_file("") if _version("fanfold") else "a clone"
    spec = find_spec("fanfold")
    yield Finding("installed", True, f"{spec.origin if spec else place}")


def _gpus() -> Iterator[Finding]:
    from fanfold.pipeline.cluster.gpus import find_gpus, probe_device

    found = find_gpus()
    if found.problem is not None:
        yield Finding("GPU", not found.names, f"{found.problem}: computing on the CPU")
        return
    device = probe_device()
    yield Finding("GPU", device.problem is None, device.problem or f"{len(found.names)} × {device.name}")


def _processor() -> Iterator[Finding]:
    import dask.system
    import torch

    usable = dask.system.CPU_COUNT
    yield Finding(
        "cores",
        True,
        f"{usable} usable of {os.cpu_count()}, so {counted(usable, 'worker')} by default; "
        f"{counted(torch.get_num_threads(), 'thread')} of PyTorch's here",
    )


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield _room("memory", memory.available, memory.total)


def _disk() -> Iterator[Finding]:
    for what, folder in {"disk": Path.cwd(), "disk of temporary files": Path(tempfile.gettempdir())}.items():
        usage = shutil.disk_usage(folder)
        yield _room(f"{what}", usage.free, usage.total, f" ({folder})")


def _room(what: str, free: float, total: float, where: str = "") -> Finding:
    ok = free > FREE * 1e9
    return Finding(what, ok, f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB{where}")


def _caches() -> Iterator[Finding]:
    import matplotlib
    import numba
    from numba.misc.appdirs import AppDirs

    package = Path(find_spec("fanfold.tasks").origin or "").parent  # type: ignore[union-attr]
    named: str = vars(numba.config)["CACHE_DIR"]
    own: Any = AppDirs  # untyped
    # Where no folder is named, Numba takes the package's, or else the user's.
    places = [Path(named)] if named else [package, Path(own("numba", appauthor=False).user_cache_dir)]
    kernels = next((place for place in places if _unwritable(place) is None), places[0])
    for what, folder, advice in (
        ("Numba's cache", kernels, "let NUMBA_CACHE_DIR name a folder"),
        ("Matplotlib's cache", Path(matplotlib.get_cachedir()), "let MPLCONFIGDIR name a folder"),
        ("Fanfold's cache", cache_folder(), "let FANFOLD_CACHE name a folder"),
        ("current folder", Path.cwd(), "runs/ and stores/ go there: change to another folder"),
    ):
        problem = _unwritable(folder)
        blocks = problem is not None and what == "current folder"
        yield Finding(what, problem is None, f"{folder}{f': {problem}; {advice}' if problem else ''}", blocks)


def _unwritable(folder: Path) -> str | None:
    """Why no file can be written below a folder; None if one can."""
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"fanfold")
            file.flush()
    except OSError as error:
        return f"can't be written to ({error.strerror})"
    return None


def _data() -> Iterator[Finding]:
    stores = sorted(STORES.glob("*.zarr"))
    for path in stores:
        try:
            yield Finding("store", True, f"{path}: {open_store(path)}")
        except FanfoldError as error:
            yield Finding("store", False, str(error))
    if not stores:
        yield Finding("stores", True, f"none in {STORES}/ here: `prepare` makes one, and so does the first run")
    source = os.environ.get("OMNIGLOT_SOURCE")
    if source is None:
        yield Finding("Omniglot", True, "OMNIGLOT_SOURCE isn't set: it is downloaded, or glyphs stand in")
    else:
        found = Path(source).is_dir()
        yield Finding("Omniglot", found, f"OMNIGLOT_SOURCE={source}{'' if found else ': there is no such folder'}")


def _ports() -> Iterator[Finding]:
    free = _is_free(DASHBOARD)
    text = "free for the dashboard" if free else "in use: the next dashboard takes another port"
    yield Finding(f"port {DASHBOARD}", free, text)
    any_port = _is_free(0)
    text = "this machine's own address can be listened to" if any_port else "no port of 127.0.0.1 can be listened to"
    yield Finding("ports", any_port, text, blocks=not any_port)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
