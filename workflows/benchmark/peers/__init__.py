"""MAML's exact meta-gradient by other libraries, as their users would compute it.

Each library has a module with one function, `prepare`, see `workflows.benchmark.peers.peer.Prepare`. They are imported
only in processes of their own, see `workflows.benchmark.peers.process`.

learn2learn is not among them: no release of it can be installed on Python 3.11 or later.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """A library to measure.

    Args:
        module: The module with its `prepare`.
        distribution: The package of the reported version.
    """

    module: str
    distribution: str


PEERS: dict[str, Library] = {
    "loop": Library("fanfold.workflows.benchmark.peers.loop", "torch"),
    "higher": Library("fanfold.workflows.benchmark.peers.higher", "higher"),
    "torchopt": Library("fanfold.workflows.benchmark.peers.torchopt", "torchopt"),
    "parallel-metalearn": Library("fanfold.workflows.benchmark.peers.parallel_metalearn", "parallel-metalearn"),
}
