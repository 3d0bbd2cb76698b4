"""How the workers of a gang exchange what lies on their GPUs: by NCCL, from device to device, one GPU a worker.

It comes beside gloo's group, which connects the same workers' hosts, and tells whether each of them has a GPU of its
own: two workers on one can't be in a group of NCCL's, and exchange through their hosts instead.

NCCL by itself ends the whole process when a peer is lost. Here its watching is switched off; the driver watches, as for
gloo, and a group whose window is no longer wanted is aborted.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from threading import Thread
from typing import Any

import torch
from torch import Tensor
from torch.distributed import PrefixStore, Store, is_nccl_available  # type: ignore[attr-defined]

from fanfold.data.advice import one_line
from fanfold.pipeline.executors.communicator import Communicator

# Before the first group: what NCCL's group does of itself about a lost peer, which is to end the process.
UNWATCHED = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "TORCH_NCCL_ENABLE_MONITORING": "0"}

NAME = 64  # bytes of a GPU's name
ABORT = 5.0  # seconds within which a group is called off

_LOG = logging.getLogger(__name__)


def gpu_name() -> bytes:
    """What no other GPU is called, `NAME` bytes."""
    device = torch.cuda.current_device()
    return str(torch.cuda.get_device_properties(device).uuid).encode()[:NAME].ljust(NAME)


def connect_devices(communicator: Communicator, store: Store, name: str, bound: timedelta) -> Any:
    """A group of NCCL's for a gang that gloo connects, if each worker has a GPU of its own. All must call this.

    Returns:
        The group; None where there can't be one, on any of them.
    """
    mine = torch.tensor(list(gpu_name()), dtype=torch.uint8)
    names = {bytes(found.tolist()) for found in communicator.gather(mine)}
    able = torch.tensor([is_nccl_available() and len(names) == communicator.ranks > 1])
    if not communicator.gather(able.byte()).all():
        return None
    from torch.distributed import ProcessGroupNCCL

    os.environ |= UNWATCHED
    group: Any = None
    try:
        make: Any = ProcessGroupNCCL  # PyTorch declares neither its methods nor all it can be made of
        group = make(PrefixStore(f"{name}-devices", store), communicator.rank, communicator.ranks, bound)
        tried = torch.zeros(communicator.ranks, device="cuda")
        group._allgather_base(tried, torch.ones(1, device="cuda")).wait()
        ready = bool((tried == 1).all())
    except RuntimeError as error:
        _LOG.warning("NCCL can't connect the GPUs (%s): what they exchange goes by their hosts.", one_line(error))
        ready = False
    if communicator.gather(torch.tensor([ready]).byte()).all():
        return group
    if group is not None:
        abort(group)
    return None


def abort(group: Any, seconds: float = ABORT) -> None:
    """Call off what a group's devices wait for. NCCL may hang in that: no longer than some seconds are given to it."""
    thread = Thread(target=_aborted, args=(group,), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _LOG.warning("NCCL doesn't let go of a GPU: restart this worker if its tasks hang.")


def _aborted(group: Any) -> None:
    with suppress(RuntimeError):
        group.abort()


class DeviceCommunicator(Communicator):
    """A gang whose tensors go from device to device, by a `ProcessGroupNCCL`; all else as in `Communicator`."""

    def __init__(self, group: Any, devices: Any, rank: int, ranks: int, wanted: Callable[[], bool]) -> None:
        super().__init__(group, rank, ranks, wanted)
        self._devices = devices

    def exchange(self, rows: Tensor, found: Tensor, counts: Sequence[int]) -> None:
        """As in `Communicator`, but the host does not wait: the device goes on after the exchange."""
        _, own, width = rows.shape
        into, out = [count * width for count in counts], [own * width] * self.ranks
        self._devices.alltoall_base(found.view(-1), rows.view(-1), into, out).wait()

    def gather_into(self, found: Tensor, own: Tensor) -> None:
        """As in `Communicator`, but the host does not wait."""
        self._devices._allgather_base(found, own).wait()
