"""The check that all sides compute the same meta-gradient, without which speeds can't be compared."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fanfold.data.errors import RunError
from fanfold.pipeline import worker
from fanfold.pipeline.recipe import Recipe
from fanfold.tasks.network import as_network
from fanfold.workflows.benchmark.peers.process import Peer, build_module, draw_tasks

FANFOLD = "fanfold"
REFERENCE = "loop"
CHECKED = 2  # tasks, more than one as gradients are summed
TOLERANCE = 1e-8  # of the relative difference, in float64

Gradient = NDArray[np.float64]


def differences(recipe: Recipe, peers: Sequence[Peer]) -> dict[str, dict[str, float]]:
    """Each side's difference from the reference's gradient in float64, by dtype and name.

    Args:
        recipe: The tasks, the network, the inner loop.
        peers: The peers, the reference among them.
    """
    found = {
        str(dtype).removeprefix("torch."): {
            FANFOLD: fanfold_gradient(recipe, CHECKED, dtype),
            **{peer.name: peer.gradient(recipe, CHECKED, dtype) for peer in peers},
        }
        for dtype in (torch.float64, torch.float32)
    }
    reference = found["float64"][REFERENCE]
    return {
        dtype: {name: relative_difference(gradient, reference) for name, gradient in sides.items()}
        for dtype, sides in found.items()
    }


def check_agreement(in_float64: Mapping[str, float]) -> None:
    """Raise RunError if a side differs from the reference by more than rounding in float64."""
    wrong = [f"{name} by {difference:.1e}" for name, difference in in_float64.items() if not difference <= TOLERANCE]
    if wrong:
        raise RunError(
            f"Gradients differ, so nothing was measured: {', '.join(wrong)}, relative to the {REFERENCE}'s in float64, "
            f"where {TOLERANCE:.0e} is allowed."
        )


def relative_difference(found: Gradient, expected: Gradient) -> float:
    """The distance of two vectors relative to the second's length; infinite for different shapes."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def fanfold_gradient(recipe: Recipe, tasks: int, dtype: torch.dtype) -> Gradient:
    """Fanfold's gradient `[P]` of the recipe's first tasks, at its initialization.

    In float32, the dtype of runs, it is computed as on workers; in float64, by the algorithm itself.
    """
    if dtype == torch.float32:
        gradient: Gradient = worker.adapt(recipe, worker.initialize(recipe), 0, tasks).gradient.astype(np.float64)
        return gradient
    images = worker.open_context(recipe).images
    network = as_network(build_module(recipe, dtype), images.size, recipe.train.ways, channels=images.channels)
    parameters = recipe.algorithm.initialize(network)
    result = recipe.algorithm.meta_gradient(network, parameters, 0, draw_tasks(recipe, tasks, dtype))
    found: Gradient = result.gradient.numpy()
    return found
