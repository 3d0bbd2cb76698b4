"""The algorithms by name."""

from dataclasses import fields, is_dataclass

from fanfold.data.errors import FanfoldError
from fanfold.tasks.algorithms.anil import Anil
from fanfold.tasks.algorithms.maml import Maml
from fanfold.tasks.algorithms.maml_plus_plus import MamlPlusPlus
from fanfold.tasks.algorithms.matching import Matching
from fanfold.tasks.algorithms.meta_sgd import MetaSgd
from fanfold.tasks.algorithms.protonet import ProtoNet
from fanfold.tasks.algorithms.reptile import Reptile
from fanfold.tasks.plugins import import_class

ALGORITHMS: dict[str, type] = {
    "maml": Maml,
    "anil": Anil,
    "maml++": MamlPlusPlus,
    "meta-sgd": MetaSgd,
    "reptile": Reptile,
    "protonet": ProtoNet,
    "matching": Matching,
}


PARTS = ("head", "normalizations", "initialize", "meta_gradient", "classifier")


def own_algorithm(name: str) -> type:
    """An algorithm of one's own, named as `package.module:Class`: a frozen dataclass, see `tasks.algorithm.Algorithm`.

    Raises:
        FanfoldError: There is no such class, or it lacks something.
    """
    found = import_class("algorithm", name)
    if not is_dataclass(found) or not isinstance(found, type) or "name" not in {part.name for part in fields(found)}:
        raise FanfoldError(f"Algorithm '{name}' must be a frozen dataclass with a field `name: str`.")
    if missing := [part for part in PARTS if not hasattr(found, part)]:
        raise FanfoldError(f"Algorithm '{name}' lacks {', '.join(missing)}: see tasks.algorithm.Algorithm.")
    return found
