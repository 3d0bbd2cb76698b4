"""The GPUs that a machine has for workers, by the driver's inventory (NVML), and whether PyTorch can use them.

NVML needs no CUDA context: the driver of a run holds no memory of any GPU.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from distributed.comm.addressing import get_address_host

from fanfold.data.advice import one_line

try:
    import pynvml
except ImportError:  # where NVIDIA has no driver
    pynvml = None

LISTED = 3  # workers named in a note, at most


@dataclass(frozen=True)
class Inventory:
    """A machine's GPUs as the NVIDIA driver lists them."""

    uuids: tuple[str, ...] = ()  # `GPU-…`, in the order of the PCI bus, as `nvidia-smi` numbers them
    instances: tuple[str, ...] = ()  # `MIG-…`, the parts of divided GPUs
    cuda: tuple[int, int] = (0, 0)  # the latest CUDA version that the driver supports: major, minor


@dataclass(frozen=True)
class Gpus:
    """A machine's GPUs that CUDA_VISIBLE_DEVICES shows."""

    names: tuple[int | str, ...]  # indices in the order of the PCI bus, or UUIDs of MIG instances
    problem: str | None = None  # why they can't be used, or that there are none


@dataclass(frozen=True)
class Device:
    """A worker's GPU."""

    name: str | None = None  # the GPU's model; None where the worker has none that it can use
    uuid: str = ""
    seen: int = 0  # GPUs that the worker's PyTorch sees; it uses the first
    problem: str | None = None  # why PyTorch can't use the GPU


@dataclass(frozen=True)
class Hardware:
    """The hardware of a cluster's workers."""

    device: Literal["cpu", "cuda"] = "cpu"  # `cuda` if every worker has a GPU that it can use, else `cpu`
    gpus: tuple[str, ...] = ()  # models, one for each GPU however many workers share it
    problem: str | None = None  # why workers with a GPU can't use it
    notes: tuple[str, ...] = ()  # for the user, a line each


def find_gpus() -> Gpus:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES shows, and whether this PyTorch can use them."""
    if pynvml is None:
        return Gpus((), "no GPU found")
    try:
        inventory = take_inventory()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):  # no driver: no GPU
        inventory = Inventory()
    except pynvml.NVMLError as error:
        return Gpus((), f"the NVIDIA driver doesn't answer ({one_line(error)})")
    return choose(inventory, os.environ.get("CUDA_VISIBLE_DEVICES"), torch.__version__, torch.version.cuda)


def take_inventory() -> Inventory:
    """Ask the NVIDIA driver.

    Raises:
        pynvml.NVMLError: There is no driver, or it doesn't answer.
    """
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        version = pynvml.nvmlSystemGetCudaDriverVersion()  # 12080 for 12.8
        return Inventory(
            uuids=tuple(pynvml.nvmlDeviceGetUUID(handle) for handle in handles),
            instances=tuple(uuid for handle in handles for uuid in _instances(handle)),
            cuda=(version // 1000, version % 1000 // 10),
        )
    finally:
        pynvml.nvmlShutdown()


def _instances(handle: Any) -> Iterator[str]:
    """The UUIDs of the MIG instances of a GPU."""
    with suppress(pynvml.NVMLError):  # most GPUs have no MIG
        for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError_NotFound):
                yield pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))


def choose(inventory: Inventory, asked: str | None, pytorch: str, cuda: str | None) -> Gpus:
    """The GPUs for PyTorch, and whether it can use them.

    `asked` is the environment's CUDA_VISIBLE_DEVICES, None where it isn't set; `cuda` is the CUDA version of PyTorch's
    build, None for a build without CUDA.
    """
    if not inventory.uuids:
        return Gpus((), "no GPU found")
    names = visible(inventory, asked)
    if not names:
        return Gpus((), f"no GPU found (CUDA_VISIBLE_DEVICES={asked!r} shows none of {len(inventory.uuids)})")
    if cuda is None:
        return Gpus(names, f"there is a GPU, but PyTorch {pytorch} is built without CUDA")
    # Within one major version of CUDA, older drivers run builds for later versions.
    if inventory.cuda[0] < int(cuda.partition(".")[0]):
        known = ".".join(map(str, inventory.cuda))
        needs = f"PyTorch {pytorch} needs a driver for CUDA {cuda}, and this one is for {known}"
        return Gpus(names, f"there is a GPU, but {needs}")
    return Gpus(names)


def visible(inventory: Inventory, asked: str | None) -> tuple[int | str, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES shows, in its order, as CUDA reads it.

    It lists indices or UUIDs, which may be shortened. The first word that names no GPU ends the list; with a repeated
    word it shows none.
    """
    if asked is None:
        return tuple(range(len(inventory.uuids)))
    words = [word.strip() for word in asked.split(",")]
    found: list[int | str] = []
    for word in words:
        name = _named(inventory, word)
        if name is None or _kind(word) != _kind(words[0]):
            break
        found.append(name)
    return tuple(found) if len(set(found)) == len(found) else ()


def _kind(word: str) -> str:
    """The kind of a word of CUDA_VISIBLE_DEVICES; all words of a list are of one kind."""
    return "index" if word.isdecimal() else word.partition("-")[0]


def _named(inventory: Inventory, word: str) -> int | str | None:
    """The GPU that a word of CUDA_VISIBLE_DEVICES names."""
    if word.isdecimal():
        return int(word) if int(word) < len(inventory.uuids) else None
    if not word.startswith(("GPU-", "MIG-")):
        return None
    meant = [uuid for uuid in (*inventory.uuids, *inventory.instances) if uuid.startswith(word)]
    if len(meant) != 1:
        return None
    return inventory.uuids.index(meant[0]) if meant[0] in inventory.uuids else meant[0]


def probe_device() -> Device:
    """The GPU of this process. Only use proves that a GPU can be used, so it is used once."""
    if not torch.cuda.is_available():
        gpus = find_gpus()
        problem = gpus.problem or "there is a GPU, but PyTorch finds none"
        return Device(problem=problem if gpus.names else None)
    try:
        torch.zeros(1, device="cuda").item()  # not every PyTorch has kernels for every GPU
    except RuntimeError as error:
        first, *_ = str(error).split("\n")  # the other lines are advice for debugging PyTorch
        return Device(problem=f"there is a GPU, but PyTorch says: {first}")
    properties = torch.cuda.get_device_properties(0)
    return Device(properties.name, str(properties.uuid), torch.cuda.device_count())


def common(found: Mapping[str, Device]) -> Hardware:
    """The common hardware of workers, given each one's device by its address."""
    if all(device.name is not None for device in found.values()):
        cards = {device.uuid: str(device.name) for device in found.values()}
        gpus = tuple(sorted(cards.values()))
        return Hardware("cuda", gpus, notes=(*_idle(found), *_unlike(gpus)))
    troubled: dict[str, list[str]] = defaultdict(list)
    for address, device in found.items():
        if device.name is None:
            troubled[device.problem or "no GPU"].append(address)
    if list(troubled) == ["no GPU"] and len(troubled["no GPU"]) == len(found):
        return Hardware()
    usable = sum(device.name is not None for device in found.values())
    why = "; ".join(f"{_some(addresses)}: {problem}" for problem, addresses in troubled.items())
    return Hardware(problem=f"{usable} of {len(found)} workers can use a GPU ({why})")


def _idle(found: Mapping[str, Device]) -> Iterator[str]:
    """Notes on machines whose workers share a GPU while others are idle."""
    hosts: dict[str, list[Device]] = defaultdict(list)
    for address, device in found.items():
        hosts[get_address_host(address)].append(device)
    for host, devices in sorted(hosts.items()):
        used, seen = len({device.uuid for device in devices}), max(device.seen for device in devices)
        if used < min(len(devices), seen):
            yield (
                f"{len(devices)} workers at {host} use {used} of its {seen} GPUs: `dask cuda worker` starts one worker "
                "on each"
            )


def _unlike(gpus: Sequence[str]) -> Iterator[str]:
    if len(set(gpus)) > 1:
        yield f"GPUs of several kinds ({in_words(gpus)}): another run may differ in the last digits"


def in_words(gpus: Sequence[str]) -> str:
    """Models of GPUs in words: "NVIDIA L4, 2 × NVIDIA H200"."""
    counts = Counter(gpus)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())


def _some(addresses: Sequence[str]) -> str:
    left = len(addresses) - LISTED
    return ", ".join(addresses[:LISTED]) + (f" and {left} more" if left > 0 else "")
