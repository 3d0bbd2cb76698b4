"""MAML's exact meta-gradient as other libraries' users would have it computed: what Fanfold is measured against.

A library a module, each with one function, `prepare`, see `workflows.benchmark.peers.peer.Prepare`. Nothing else
imports them, or what they import: they run in processes of their own, see `workflows.benchmark.peers.process`.

learn2learn is not among them: no release of it can be installed on Python 3.11 or later.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """Where a peer is.

    Args:
        module: The module that has its `prepare`.
        distribution: The package whose version is reported.
    """

    module: str
    distribution: str


PEERS: dict[str, Library] = {
    "loop": Library("fanfold.workflows.benchmark.peers.loop", "torch"),
    "higher": Library("fanfold.workflows.benchmark.peers.higher", "higher"),
    "torchopt": Library("fanfold.workflows.benchmark.peers.torchopt", "torchopt"),
    "parallel-metalearn": Library("fanfold.workflows.benchmark.peers.parallel_metalearn", "parallel-metalearn"),
}
