"""A function of tensors as a CUDA graph, which launches hundreds of kernels at once."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fanfold.data.advice import one_line

_LOG = logging.getLogger(__name__)


class _Graph(NamedTuple):
    """A captured function, with the fixed tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Any


class Captured:
    """A function that is captured as a CUDA graph, once for each combination of input shapes.

    The first call runs the function plainly, which prepares everything that can't be prepared during a capture. The
    second call captures it, and every further call replays the graph. If the function can't be captured, it always runs
    plainly, and the worker's log has a warning. On a CPU, every call runs the function plainly.

    Args:
        function: Reads nothing back from the device, and runs the same kernels in every call. It may write to tensors
            that outlive the call.
        device: The device of its tensors.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function, self._on_gpu = function, device.type == "cuda"
        self._graphs: dict[tuple[torch.Size, ...], _Graph | None] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's output. The next replay overwrites the output of a replay."""
        if not self._on_gpu:
            return self._function(*inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = None
            return self._function(*inputs)
        captured = self._graphs[shapes]
        if captured is None:
            captured = self._capture(inputs)
            if captured is None:
                self._on_gpu = False
                return self._function(*inputs)
            self._graphs[shapes] = captured
        for fixed, given in zip(captured.inputs, inputs, strict=True):
            fixed.copy_(given)
        captured.graph.replay()
        return captured.output

    def _capture(self, inputs: tuple[Tensor, ...]) -> _Graph | None:
        graph, fixed = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in inputs)
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream()
        try:
            # Other threads of a worker may use the device during the capture.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                output = self._function(*fixed)
        except RuntimeError as error:
            # PyTorch 2.11 leaves its own stream current where a capture fails at its end.
            torch.cuda.set_stream(stream)
            with suppress(RuntimeError):  # what failed may be reported once more
                torch.cuda.synchronize()
            _LOG.warning("This computation can't be captured as a CUDA graph (%s): it is slower.", one_line(error))
            return None
        return _Graph(graph, fixed, output)
