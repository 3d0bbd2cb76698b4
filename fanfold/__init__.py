"""Meta-learning over a Dask cluster: meta-batches fanned out over workers, and folded into one meta-gradient."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanfold.data.errors import FanfoldError as FanfoldError
    from fanfold.pipeline.classifier import Classifier as Classifier
    from fanfold.tasks.algorithm import Algorithm as Algorithm
    from fanfold.workflows.face.clusters import cluster as cluster
    from fanfold.workflows.face.prepare import prepare as prepare
    from fanfold.workflows.face.run import Run as Run
    from fanfold.workflows.face.run import learn as learn
    from fanfold.workflows.face.run import load as load
    from fanfold.workflows.face.search import search as search
    from fanfold.workflows.face.train import train as train

    __version__: str

_HOMES = {
    "Algorithm": "fanfold.tasks.algorithm",
    "Classifier": "fanfold.pipeline.classifier",
    "FanfoldError": "fanfold.data.errors",
    "Run": "fanfold.workflows.face.run",
    "cluster": "fanfold.workflows.face.clusters",
    "learn": "fanfold.workflows.face.run",
    "load": "fanfold.workflows.face.run",
    "prepare": "fanfold.workflows.face.prepare",
    "search": "fanfold.workflows.face.search",
    "train": "fanfold.workflows.face.train",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is first asked for: PyTorch takes seconds."""
    if name == "__version__":
        found: Any = import_module("fanfold.pipeline.cluster.joining").installed()
    elif name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'fanfold' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
