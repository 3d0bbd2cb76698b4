"""The algorithms by name."""

from tasks.maml import Maml

ALGORITHMS: dict[str, type] = {"maml": Maml}
