"""Workers on the GPUs of this machine. Imported where some are wanted: dask-cuda is for Linux alone."""

import contextlib
from typing import Any

from dask_cuda import LocalCUDACluster


class GpuCluster(LocalCUDACluster):  # type: ignore[misc]  # it declares no types
    """dask-cuda's cluster, with several workers on a GPU where there are more workers than GPUs.

    Workers take the GPUs in turn. Each sees all of them, its own first, and is bound to the cores beside that. Those
    that share a GPU share its memory, and take turns there unless NVIDIA's MPS is running.
    """

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except BaseException:
            with contextlib.suppress(Exception):  # there may be a scheduler by now
                self.close()
            raise

    def new_worker_spec(self) -> dict[int | str, Any]:
        """The next worker, by its name. Called by Dask."""
        gpus, place = self.cuda_visible_devices, len(self.worker_spec)
        if place >= len(gpus):
            gpu = gpus[place % len(gpus)]
            return {f"{gpu}-{place // len(gpus)}": self.worker_spec[gpu]}
        found: dict[int | str, Any] = super().new_worker_spec()
        for spec in found.values():
            # So are the indices meant that NVML gave, and dask-cuda asks NVML about; by default, CUDA's may be others.
            spec["options"]["env"]["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        return found
