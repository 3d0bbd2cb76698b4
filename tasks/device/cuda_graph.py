"""A function of tensors as a CUDA graph: hundreds of kernels in one launch."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fanfold.data.advice import one_line

_LOG = logging.getLogger(__name__)


class _Graph(NamedTuple):
    """A captured function, and the tensors that it reads from and writes to, always the same."""

    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    found: Any


class Captured:
    """A function that is captured as a CUDA graph, once for every shape of what it is given.

    Its first call computes plainly, and makes ready on the way whatever may not be made ready in a capture; the second
    captures; and from then on the graph is replayed. A function that can't be captured goes on plainly, with a word in
    the worker's log. On a CPU every call is plain.

    Args:
        function: Waits for nothing on the host, and does the same whenever it is called. It may write to tensors that
            outlive it.
        device: Where it computes.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self._function, self._on_gpu = function, device.type == "cuda"
        self._graphs: dict[tuple[torch.Size, ...], _Graph | None] = {}

    def __call__(self, *given: Tensor) -> Any:
        """What the function gives; a replay's is overwritten by the next."""
        if not self._on_gpu:
            return self._function(*given)
        shapes = tuple(tensor.shape for tensor in given)
        if shapes not in self._graphs:
            self._graphs[shapes] = None
            return self._function(*given)
        captured = self._graphs[shapes]
        if captured is None:
            captured = self._capture(given)
            if captured is None:
                self._on_gpu = False
                return self._function(*given)
            self._graphs[shapes] = captured
        for here, there in zip(captured.given, given, strict=True):
            here.copy_(there)
        captured.graph.replay()
        return captured.found

    def _capture(self, given: tuple[Tensor, ...]) -> _Graph | None:
        graph, copies = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in given)
        torch.cuda.synchronize()
        try:
            # Other threads of a worker may use the device meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                found = self._function(*copies)
        except RuntimeError as error:
            torch.cuda.synchronize()
            _LOG.warning("This computation can't be captured as a CUDA graph (%s): it is slower.", one_line(error))
            return None
        return _Graph(graph, copies, found)
