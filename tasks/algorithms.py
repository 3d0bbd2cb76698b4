"""The algorithms by name."""

from dataclasses import fields, is_dataclass

from data.errors import FanfoldError
from tasks.anil import Anil
from tasks.maml import Maml
from tasks.maml_plus_plus import MamlPlusPlus
from tasks.matching import Matching
from tasks.meta_sgd import MetaSgd
from tasks.own import import_class
from tasks.protonet import ProtoNet
from tasks.reptile import Reptile

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
    """An algorithm of one's own, named as `package.module:Class`: a frozen dataclass, see `tasks.learner.Algorithm`.

    Raises:
        FanfoldError: There is no such class, or it lacks something.
    """
    found = import_class("algorithm", name)
    if not is_dataclass(found) or not isinstance(found, type) or "name" not in {part.name for part in fields(found)}:
        raise FanfoldError(f"Algorithm '{name}' must be a frozen dataclass with a field `name: str`.")
    if missing := [part for part in PARTS if not hasattr(found, part)]:
        raise FanfoldError(f"Algorithm '{name}' lacks {', '.join(missing)}: see tasks.learner.Algorithm.")
    return found
