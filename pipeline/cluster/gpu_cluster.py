"""Workers on the GPUs of this machine. Imported only where needed: dask-cuda is only for Linux."""

import contextlib
from typing import Any

from dask_cuda import LocalCUDACluster


class GpuCluster(LocalCUDACluster):  # type: ignore[misc]  # it declares no types
    """dask-cuda's cluster, with several workers on a GPU where there are more workers than GPUs.

    Workers are distributed evenly. Each sees all GPUs, its own first, and is bound to the cores near that one. Workers
    on one GPU share its memory, and compute one at a time unless NVIDIA's MPS is running.
    """

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except BaseException:
            with contextlib.suppress(Exception):  # the scheduler may have started
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
            # NVML numbers GPUs in this order, and so does dask-cuda; CUDA's default order may differ.
            spec["options"]["env"]["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        return found
